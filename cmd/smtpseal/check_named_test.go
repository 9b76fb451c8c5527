package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// named is a configuration whose storage is on line 5, its key on line 6, and
// what is run on line 8.
func named(dir, storage, key, acme string) string {
	return fmt.Sprintf(`listeners: [{listen: "127.0.0.1:465", tls: implicit, backend: mta}]
backends: {mta: {preset: postfix, servers: ["127.0.0.1:25"]}}
certificates: [{names: [mail.example.org]}]
storage:
  path: %s
  encryption_key: %q
acme:
  %s
  email: a@example.org
`, filepath.Join(dir, storage), key, acme)
}

// Each of these is found when it is needed, a renewal or a restart later, unless
// check says it.
func TestCheckLooksAtWhatIsNamed(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no permission bits there")
	}
	dir := t.TempDir()
	put := func(name, text string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := put("good.key", strings.Repeat("0f", 32)+"\n", 0o600)
	put("short.key", "hunter2\n", 0o600)
	put("cut.key", strings.Repeat("0f", 20)+"\n", 0o600)
	put("file", "", 0o600)
	hook, plain := put("hook", "#!/bin/sh\n", 0o700), put("plain", "#!/bin/sh\n", 0o600)
	t.Setenv("SMTPSEAL_TEST_SHORT", "hunter2")
	for name, c := range map[string]struct {
		storage, key, acme string
		want               string // behind the name of the file
		good               bool   // a warning at most
	}{
		"all is there":        {"store", "file:" + good, "on_event: " + hook, ": good", true},
		"nothing of it":       {"store", "", "alert_days: 3", ": good", true},
		"a short key":         {"store", "file:" + dir + "/short.key", "on_event: " + hook, ":6: storage.encryption_key: has 7 octets where it is kept; keep at least 32", false},
		"a short variable":    {"store", "env:SMTPSEAL_TEST_SHORT", "on_event: " + hook, ":6: storage.encryption_key: has 7 octets", false},
		"no key":              {"store", "file:" + dir + "/none", "on_event: " + hook, ":6: storage.encryption_key: \"file:", false},
		"half a key":          {"store", "file:" + dir + "/cut.key", "on_event: " + hook, ": warning: storage.encryption_key: only 40 hex digits", true},
		"a file":              {"file", "file:" + good, "on_event: " + hook, ":5: storage.path: " + dir + "/file is no directory", false},
		"below a file":        {"file/store", "file:" + good, "on_event: " + hook, ":5: storage.path: " + dir + "/file is no directory", false},
		"no program":          {"store", "", "on_event: " + dir + "/none", ":8: acme.on_event: " + dir + "/none is no file", false},
		"a list, no program":  {"store", "", "on_event: [" + dir + "/none, x]", ":8: acme.on_event: " + dir + "/none is no file", false},
		"not executable":      {"store", "", "on_event: " + plain, ":8: acme.on_event: " + plain + " may not be run", false},
		"a directory":         {"store", "", "on_event: " + dir, ":8: acme.on_event: " + dir + " is a directory", false},
		"http to the world":   {"store", "", `on_event: "http://hooks.example.org/x"`, ": warning: acme.on_event: http without TLS", true},
		"no program for DNS":  {"store", "", "challenges: [dns-01]\n  dns: {provider: exec, command: " + dir + "/none}", ":9: acme.dns.command: " + dir + "/none is no file", false},
		"two things at once":  {"file", "", "on_event: " + dir + "/none", ":8: acme.on_event: ", false},
		"two things, ordered": {"file", "", "on_event: " + dir + "/none", ":5: storage.path: ", false},
	} {
		t.Run(name, func(t *testing.T) {
			text := named(dir, c.storage, c.key, c.acme)
			if c.key == "" {
				text = strings.Replace(text, "encryption_key: \"\"", "prefix: smtpseal", 1)
			}
			file := write(t, "smtpseal.yaml", text)
			code, stdout, stderr := command("check", "-c", file)
			if (code == 0) != c.good || !strings.Contains(stdout+stderr, file+c.want) || strings.Contains(stderr, "hunter2") {
				t.Errorf("exit %d, want %q in\n%s%s", code, c.want, stdout, stderr)
			}
		})
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 6 {
		t.Errorf("check has made something: %v %v", entries, err)
	}
}
