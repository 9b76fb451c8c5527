package mta

import (
	"crypto/hmac"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
)

// cramChallenge is always the same, so that transcripts can be compared.
const cramChallenge = "<1896.697170952@mta.example.test>"

var (
	errCancelled = errors.New("cancelled by the client")
	errRefused   = errors.New("refused by a fault")
	errMechanism = errors.New("mechanism unknown")
)

// auth is RFC 4954 section 4 with PLAIN, LOGIN and CRAM-MD5.
func (s *session) auth(argument string) error {
	s.inAuth = false
	mechanism, initial, _ := strings.Cut(argument, " ")
	user, good, err := s.exchange(strings.ToUpper(mechanism), initial)
	switch {
	case errors.Is(err, errRefused):
		return nil
	case errors.Is(err, errCancelled):
		_, err = s.answerAuth("501 5.7.0 Authentication aborted")
	case errors.Is(err, errMechanism):
		_, err = s.answerAuth("504 5.5.4 Unrecognized authentication type")
	case err != nil:
	case !good:
		_, err = s.answerAuth("535 5.7.8 Error: authentication failed")
	default:
		var yes bool
		if yes, err = s.answerAuth("235 2.7.0 Authentication successful"); yes {
			s.server.update(func() { s.record.User = user })
		}
	}
	return err
}

// exchange runs one mechanism up to its verdict.
func (s *session) exchange(mechanism, initial string) (user string, good bool, err error) {
	switch mechanism {
	case "PLAIN": // RFC 4616
		message, err := s.response("", initial)
		parts := strings.Split(message, "\x00")
		if err != nil || len(parts) != 3 {
			return "", false, err
		}
		return parts[1], s.password(parts[1], parts[2]), nil
	case "LOGIN":
		user, err := s.response("Username:", initial)
		if err != nil {
			return "", false, err
		}
		password, err := s.response("Password:", "")
		return user, err == nil && s.password(user, password), err
	case "CRAM-MD5": // RFC 2195
		message, err := s.response(cramChallenge, "")
		if err != nil {
			return "", false, err
		}
		user, digest, _ := strings.Cut(message, " ")
		mac := hmac.New(md5.New, []byte(s.server.config.Users[user]))
		mac.Write([]byte(cramChallenge))
		return user, s.known(user) && digest == hex.EncodeToString(mac.Sum(nil)), nil
	}
	return "", false, errMechanism
}

// response asks for one line with 334 unless the client sent it already, and
// decodes it.
func (s *session) response(challenge, initial string) (string, error) {
	if initial == "" {
		yes, err := s.answerAuth("334 " + base64.StdEncoding.EncodeToString([]byte(challenge)))
		if err != nil {
			return "", err
		}
		if !yes {
			return "", errRefused
		}
		line, err := s.in.ReadSlice('\n')
		if err != nil {
			return "", err
		}
		initial = strings.TrimRight(string(line), "\r\n")
	}
	if initial == "=" { // RFC 4954 section 4: an empty initial response
		return "", nil
	}
	decoded, err := base64.StdEncoding.DecodeString(initial)
	if err != nil { // "*", too
		return "", errCancelled
	}
	return string(decoded), nil
}

// answerAuth answers the AUTH command itself at one point, and the lines that
// follow it at another.
func (s *session) answerAuth(text string) (yes bool, err error) {
	point := AuthStep
	if !s.inAuth {
		s.inAuth, point = true, "AUTH"
	}
	return s.answer(point, text)
}

func (s *session) known(user string) bool {
	_, ok := s.server.config.Users[user]
	return ok
}

func (s *session) password(user, password string) bool {
	return s.known(user) && s.server.config.Users[user] == password
}
