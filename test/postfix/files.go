package postfix

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"smtpseal/test/loopback"

	"smtpseal/test/debian"
)

// prepare writes all that launch.sh needs.
func (s *Server) prepare(config Config, root string) error {
	if err := os.Chmod(s.dir, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"conf/sasl", "queue", "data", "mail"} {
		if err := os.MkdirAll(filepath.Join(s.dir, name), 0o755); err != nil {
			return err
		}
	}
	master, err := s.masterCF(config.Services)
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"conf/main.cf":         s.mainCF(config, root) + config.Main,
		"conf/master.cf":       master + config.Master,
		"conf/sasl/smtpd.conf": s.smtpdConf(),
		"conf/chain.pem":       string(config.Chain),
		"log":                  "", // or postlogd makes it, readable by root only
	} {
		path := filepath.Join(s.dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
		// Postfix waits two seconds for a file to be that old.
		old := time.Now().Add(-time.Hour)
		if err := os.Chtimes(path, old, old); err != nil {
			return err
		}
	}
	for user, password := range config.Users {
		if err := s.addUser(root, user, password); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) mainCF(config Config, root string) string {
	return strings.NewReplacer(
		"$ROOT", root, "$DIR", s.dir, "$OWNER", queueOwner, "$GROUP", queueGroup,
		"$DOMAIN", Domain, "$TRUSTED", Trusted, "$UID", fmt.Sprint(recipientID()),
		"$SIZE", fmt.Sprint(config.SizeLimit),
	).Replace(`compatibility_level = 3.6
command_directory = $ROOT/usr/sbin
daemon_directory = $ROOT/usr/lib/postfix/sbin
meta_directory = $ROOT/etc/postfix
shlib_directory = $ROOT/usr/lib/postfix
sendmail_path = $ROOT/usr/sbin/sendmail
newaliases_path = $ROOT/usr/bin/newaliases
mailq_path = $ROOT/usr/bin/mailq
queue_directory = $DIR/queue
data_directory = $DIR/data
mail_owner = $OWNER
setgid_group = $GROUP
default_privs = nobody
# The last two lead to the unpacked libraries; Postfix drops all else.
import_environment = MAIL_CONFIG MAIL_LOGTAG TZ LANG=C POSTLOG_SERVICE POSTLOG_HOSTNAME LD_LIBRARY_PATH SASL_PATH
maillog_file = $DIR/log
maillog_file_prefixes = /

myhostname = postfix.$DOMAIN
mydestination =
alias_maps =
alias_database =
inet_interfaces = loopback-only
inet_protocols = all
smtpd_peername_lookup = no
smtpd_client_port_logging = yes
# Bounds that many tests at once would run into.
smtpd_client_connection_count_limit = 0
smtpd_error_sleep_time = 0
in_flow_delay = 0
message_size_limit = $SIZE

mynetworks = $TRUSTED
smtpd_relay_restrictions = permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination
smtpd_tls_security_level = none
smtpd_tls_auth_only = no
smtpd_sasl_type = cyrus
smtpd_sasl_path = smtpd
cyrus_sasl_config_path = $DIR/conf/sasl

# Byte for byte: nothing is added but the trace, nothing rewritten.
local_header_rewrite_clients =
virtual_mailbox_domains = $DOMAIN
virtual_mailbox_base = $DIR/mail
virtual_mailbox_maps = static:inbox/
virtual_mailbox_limit = 0
virtual_uid_maps = static:$UID
virtual_gid_maps = static:$UID
default_transport = discard:
`)
}

func (s *Server) masterCF(services []Service) (string, error) {
	var text strings.Builder
	for _, service := range services {
		host := service.Host
		if host == "" {
			host = "127.0.0.1"
		}
		addr, err := loopback.Free(host)
		if err != nil {
			return "", err
		}
		s.addrs[service.Name] = addr
		fmt.Fprintf(&text, "%s inet n - n - - smtpd\n", addr)
		fmt.Fprintf(&text, "  -o syslog_name=postfix/%s\n", service.Name)
		if service.Proxy {
			text.WriteString("  -o smtpd_upstream_proxy_protocol=haproxy\n")
		}
		if service.SASL {
			text.WriteString("  -o smtpd_sasl_auth_enable=yes\n")
		}
		for _, option := range append(s.tlsOptions(service.TLS), service.Options...) {
			fmt.Fprintf(&text, "  -o %s\n", option)
		}
	}
	text.WriteString(`tlsmgr    unix  - - n 1000? 1 tlsmgr
postlog   unix-dgram n - n - 1 postlogd
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
verify    unix  - - n - 1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n - - proxymap
error     unix  - - n - - error
retry     unix  - - n - - error
discard   unix  - - n - - discard
virtual   unix  - n n - - virtual
anvil     unix  - - n - 1 anvil
showq     unix  n - n - - showq
`)
	return text.String(), nil
}

// tlsOptions are what Postfix needs to end TLS itself, as it should be done: no
// old versions, no AUTH in clear, no bare line ends.
func (s *Server) tlsOptions(mode string) []string {
	if mode == "" {
		return nil
	}
	level := "encrypt"
	if mode == "starttls-optional" {
		level = "may"
	}
	options := []string{
		"smtpd_tls_chain_files=" + filepath.Join(s.dir, "conf/chain.pem"), "smtpd_tls_security_level=" + level,
		"smtpd_tls_auth_only=yes", "smtpd_tls_protocols=>=TLSv1.2", "smtpd_tls_mandatory_protocols=>=TLSv1.2",
		"smtpd_tls_exclude_ciphers=kRSA", "smtpd_forbid_bare_newline=normalize",
	}
	if mode == "implicit" {
		options = append(options, "smtpd_tls_wrappermode=yes")
	}
	return options
}

func (s *Server) smtpdConf() string {
	return fmt.Sprintf(`pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: %s
mech_list: PLAIN LOGIN CRAM-MD5
`, s.sasldb())
}

func (s *Server) sasldb() string { return filepath.Join(s.dir, "data", "sasldb2") }

// addUser hands the password over on standard input: an argument would be in
// the process list.
func (s *Server) addUser(root, user, password string) error {
	name, domain, _ := strings.Cut(user, "@")
	command := exec.Command(filepath.Join(root, "usr/sbin/saslpasswd2"), "-p", "-c", "-f", s.sasldb(), "-u", domain, name)
	command.Env = append(os.Environ(), "LD_LIBRARY_PATH="+debian.LibraryPath(root, filepath.Join(root, "usr/lib/postfix")), "SASL_PATH="+saslPath(root))
	command.Stdin = strings.NewReader(password)
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("saslpasswd2: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}
