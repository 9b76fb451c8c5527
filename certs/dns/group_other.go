//go:build !unix

package dns

import "os/exec"

// together does nothing where there are no process groups: a time-out ends the
// program alone.
func together(*exec.Cmd) {}
