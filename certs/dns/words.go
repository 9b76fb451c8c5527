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
	text := hide(err.Error(), secrets)
	if text == err.Error() {
		return err
	}
	return &concealed{err, text}
}

// hide cuts secrets out of a text. What will be shortened is hidden first: half
// a secret would not be found.
func hide(text string, secrets []string) string {
	for _, secret := range secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "********")
		}
	}
	return text
}
