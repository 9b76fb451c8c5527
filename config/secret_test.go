package config

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// put writes a file that holds a secret.
func put(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestASecretIsResolvedFromWhereItIsKept(t *testing.T) {
	t.Setenv("SMTPSEAL_TEST", "from the environment\n")
	for written, want := range map[string]string{
		"":                                 "",
		"itself":                           "itself",
		" itself ":                         " itself ",
		"FILE:x":                           "FILE:x",
		"file:" + put(t, "bare"):           "bare",
		"file:" + put(t, "line\n"):         "line",
		"file:" + put(t, "line\r\n"):       "line",
		"file:" + put(t, "two\n\n"):        "two\n",
		"file:" + put(t, " a\nb \r"):       " a\nb \r",
		"file:" + put(t, big(maxSecret)):   big(maxSecret),
		"env:SMTPSEAL_TEST":                "from the environment\n",
		"file:" + put(t, "file:/dev/null"): "file:/dev/null",
	} {
		if got, err := newSecret("a.key", written, false).Resolve(); got != want || err != nil {
			t.Errorf("%.60q: got %.60q and %v, want %.60q", written, got, err, want)
		}
	}
}

func big(n int) string { return strings.Repeat("s", n) }

// TestASecretIsReadAnew: a rotated one is seen without another configuration.
func TestASecretIsReadAnew(t *testing.T) {
	file := put(t, "old\n")
	s := newSecret("a.key", "file:"+file, false)
	if got, _ := s.Resolve(); got != "old" {
		t.Fatal(got)
	}
	if err := os.WriteFile(file, []byte("new\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, _ := s.Resolve(); got != "new" {
		t.Error(got)
	}
}

func TestASecretThatCannotBeHadSaysWhatToDo(t *testing.T) {
	t.Setenv("SMTPSEAL_EMPTY", "")
	folder := t.TempDir()
	empty, line, large := put(t, ""), put(t, "\n"), put(t, big(maxSecret+1))
	for written, want := range map[string]string{
		"file:" + folder + "/none": "is no file; write the secret into it, or name the file that has it",
		"file:" + folder:           "is a directory; name the file in it",
		"file:" + empty:            "is empty; write the secret into the file",
		"file:" + line:             "is empty; write the secret into the file",
		"file:" + large:            "is larger than 65536 bytes; write nothing but the secret into the file",
		"file:/dev/zero":           "is larger than 65536 bytes; write nothing but the secret into the file",
		"file:/dev/null/x":         "cannot be read: not a directory; name a readable file",
		"env:SMTPSEAL_UNSET":       `is not set; set the variable "SMTPSEAL_UNSET" where smtpseal is started (systemd: EnvironmentFile=; a container: env), or name another`,
		"env:SMTPSEAL_EMPTY":       "is empty; write the secret into the variable",
	} {
		got, err := newSecret("a.key", written, false).Resolve()
		if got != "" || err == nil || err.Error() != "a.key: "+quote(written)+" "+want {
			t.Errorf("%s: got %.60q and %v", written, got, err)
		}
	}
	_, err := newSecret("a.key", mask, false).Resolve()
	if err == nil || err.Error() != "a.key: is masked, as smtpseal config prints it; write the secret itself in place of the asterisks, or file:PATH or env:NAME" {
		t.Errorf("masked: %v", err)
	}
	if got, err := newSecret("a.key", mask, true).Resolve(); got != mask || err != nil {
		t.Errorf("a plain setting of asterisks: %q, %v", got, err)
	}
}

// TestSecretsAreEqualIfWrittenAlike: who compares two configurations must see a
// secret that has changed.
func TestSecretsAreEqualIfWrittenAlike(t *testing.T) {
	one := newSecret("k", "a", false)
	if again := newSecret("k", strings.Clone("a"), false); one != again || newSecret("k", "", false) != (Secret{}) {
		t.Error("equal ones differ")
	}
	if one == newSecret("k", "b", false) || one == newSecret("l", "a", false) {
		t.Error("a changed one is the same")
	}
}

// hidden wraps a secret where fmt cannot call its methods.
type hidden struct{ secret Secret }

func TestNothingPrintsASecret(t *testing.T) {
	s := newSecret("a.key", "hunter2", false)
	printed := []any{s, &s, []Secret{s}, map[string]Secret{"k": s}, struct{ S Secret }{s}, hidden{s}, &hidden{s}, Storage{URL: s}}
	for _, what := range printed {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%10.3v"} {
			text := fmt.Sprintf(verb, what)
			if strings.Contains(text, "hunter") || strings.Contains(strings.ToLower(text), fmt.Sprintf("%x", "hunter2")) {
				t.Errorf("%s of %T: %s", verb, what, text)
			}
		}
	}
	for _, encode := range []func(any) ([]byte, error){json.Marshal, yaml.Marshal} {
		text, err := encode(struct{ S Secret }{s})
		if err != nil || strings.Contains(string(text), "hunter2") || !strings.Contains(string(text), mask) {
			t.Errorf("%s, %v", text, err)
		}
	}
	for _, reference := range []string{"env:NAME", "file:/run/secrets/x"} {
		if got := fmt.Sprint(newSecret("a.key", reference, false)); got != reference {
			t.Errorf("%s is shown as %s", reference, got)
		}
	}
}

// TestNoMistakeRepeatsASecret looks at every case there is: whatever is wrong
// with a secret, or beside it, these are the passwords in the bad files.
func TestNoMistakeRepeatsASecret(t *testing.T) {
	inside := 0
	for _, file := range files(t, "testdata/*/*.yaml", 120) {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		said, err := os.ReadFile(strings.TrimSuffix(file, ".yaml") + ".golden")
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{"hunter2", "31337", "ter2@", "c2VjcmV0", "aHVudGVyMg", "0123456789abcdef"} {
			if strings.Contains(string(data), secret) {
				inside++
			}
			if strings.Contains(string(said), secret) {
				t.Errorf("%s repeats %s", file, secret)
			}
		}
	}
	if inside < 15 {
		t.Errorf("only %d secrets in the files", inside)
	}
}
