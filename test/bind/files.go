package bind

import (
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// options keep named to itself: no control channel, no files outside its
// directory, no roots, no questions to the network of the machine.
const options = `
controls { };
options {
	directory "%[1]s";
	managed-keys-directory "%[1]s";
	session-keyfile "%[1]s/session.key";
	pid-file none;
	lock-file none;
	listen-on port %[2]s { 127.0.0.1; };
	listen-on-v6 { none; };
	recursion %[3]s;
	allow-query { any; };
	allow-recursion { any; };
	allow-transfer { any; };
	empty-zones-enable no;
	check-names primary ignore;
	dnssec-validation no;
	notify no;
	querylog yes;
	tcp-clients 50;
	recursive-clients 100;
	max-cache-size 4m;
};
logging {
	channel all { file "%[1]s/named.log"; severity info; print-time yes; print-category yes; };
	category default { all; };
	category queries { all; };
	category update { all; };
	category update-security { all; };
};
`

// write makes the directory with named.conf and the zone files.
func (s *Server) write(config Config) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	var conf strings.Builder
	recursion := "no"
	if slices.ContainsFunc(config.Zones, func(z Zone) bool { return z.Forward != "" }) {
		recursion = "yes"
	}
	_, port, _ := net.SplitHostPort(s.addr)
	fmt.Fprintf(&conf, options, s.dir, port, recursion)
	for _, key := range config.Keys {
		fmt.Fprintf(&conf, "key %q { algorithm %s; secret %q; };\n", key.Name, key.Algorithm, key.Secret)
	}
	for _, zone := range config.Zones {
		conf.WriteString(zone.stanza())
		if zone.primary() {
			if err := os.WriteFile(filepath.Join(s.dir, zone.file()), []byte(zone.text()), 0o600); err != nil {
				return err
			}
		}
	}
	return os.WriteFile(filepath.Join(s.dir, "named.conf"), []byte(conf.String()), 0o600)
}

func (z Zone) primary() bool { return z.Primary == "" && z.Forward == "" }

func (z Zone) file() string { return "zone." + strings.Trim(z.Name, ".") }

// stanza is the zone in named.conf.
func (z Zone) stanza() string {
	switch {
	case z.Forward != "":
		return fmt.Sprintf("zone %q { type forward; forward only; forwarders { %s; }; };\n", z.Name, port(z.Forward))
	case z.Primary != "":
		return fmt.Sprintf("zone %q { type secondary; file %q; primaries { %s; }; };\n", z.Name, z.file(), port(z.Primary))
	case len(z.Policy) > 0:
		return fmt.Sprintf("zone %q { type primary; file %q; update-policy { %s; }; };\n", z.Name, z.file(), strings.Join(z.Policy, "; "))
	default:
		return fmt.Sprintf("zone %q { type primary; file %q; };\n", z.Name, z.file())
	}
}

// port writes an address as named.conf does.
func port(addr string) string {
	host, port, _ := net.SplitHostPort(addr)
	return host + " port " + port
}

// text is the zone file. A secondary does not come for a new copy by itself
// within an hour. Who has asked for a name that is not there may remember that
// for an hour (the last number, RFC 2308), as real zones say.
func (z Zone) text() string {
	servers := z.Servers
	if len(servers) == 0 {
		servers = map[string]string{"ns": "127.0.0.1"}
	}
	var text strings.Builder
	fmt.Fprintf(&text, "$ORIGIN %s.\n$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 3600\n", strings.Trim(z.Name, "."))
	for _, name := range slices.Sorted(maps.Keys(servers)) {
		fmt.Fprintf(&text, "@ NS %s\n%[1]s A %s\n", name, servers[name])
	}
	return text.String() + z.Records + "\n"
}
