package dns

import (
	"strings"
	"unicode"
)

// messageLimit is how many octets of somebody else's words get into an error.
const messageLimit = 300

// brief makes one bounded, printable line of what somebody else has written.
func brief(text []byte) string {
	text = text[:min(len(text), messageLimit)]
	return strings.Join(strings.FieldsFunc(strings.ToValidUTF8(string(text), "?"), func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsPrint(r)
	}), " ")
}

// A concealed error reads like the one in it without the secrets.
type concealed struct {
	error
	text string
}

func (c *concealed) Error() string { return c.text }
func (c *concealed) Unwrap() error { return c.error }

// conceal cuts secrets out of an error's text: an API may repeat the token
// that it refuses. %v and errors.Is still work.
func conceal(err error, secrets ...string) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	for _, secret := range secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "********")
		}
	}
	if text == err.Error() {
		return err
	}
	return &concealed{err, text}
}

// longestSuffix is the zone of zones in which a name is, with or without dots
// at the ends, or "". The answer is as it is in zones.
func longestSuffix(name string, zones []string) string {
	name = "." + strings.ToLower(strings.Trim(name, "."))
	found := ""
	for _, zone := range zones {
		bare := strings.ToLower(strings.Trim(zone, "."))
		if bare != "" && strings.HasSuffix(name, "."+bare) && len(bare) > len(strings.Trim(found, ".")) {
			found = zone
		}
	}
	return found
}
