package config

import (
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// AdminDefault is where the admin listener is if the file does not say. If it is
// taken, by another smtpseal on this machine, that is no reason not to start.
var AdminDefault = Address{"tcp", "127.0.0.1:9465"}

var adminFields = []field[Admin]{
	{name: "listen", read: readAdminListen},
	{name: "hosts", read: readAdminHosts},
	{name: "pprof", read: func(v value, a *Admin) { v.flag(&a.Pprof) }},
}

func readAdmin(v value, d *document) {
	d.admin, _ = mapping(v, adminFields, &d.Admin)
}

// readAdminListen reads addresses, or off.
func readAdminListen(v value, a *Admin) {
	if v.node.Kind == yaml.ScalarNode && v.node.Value == "off" {
		a.Listen = nil
		return
	}
	a.Listen = v.addresses("127.0.0.1:9465")
}

// readAdminHosts reads names: whoever asks by another name may be a web page
// that has its own name point at us (DNS rebinding).
func readAdminHosts(v value, a *Admin) {
	v.items("write a list such as [smtpseal.example.org]", func(item value) {
		name, ok := item.text("a host name such as smtpseal.example.org")
		switch {
		case !ok:
		case !isHostname(name):
			item.wrong(quote(name)+" is no host name", "write one without a scheme and a port, such as smtpseal.example.org; addresses need not be named")
		case !slices.Contains(a.Hosts, strings.ToLower(name)):
			a.Hosts = append(a.Hosts, strings.ToLower(name))
		}
	})
}

// checkAdmin finds an address that another part has. The default one, which
// nobody may have written, gives way.
func (d *document) checkAdmin(ours bound) {
	for _, a := range slices.Clone(d.Admin.Listen) {
		switch earlier, ok := ours.add(a, "admin.listen"); {
		case ok:
		case a == AdminDefault:
			d.Admin.Listen = slices.DeleteFunc(d.Admin.Listen, func(b Address) bool { return b == a })
		default:
			d.admin.at("listen").wrong(quote(a.String())+" is taken by "+earlier, "write another port or host, or remove one of the two")
		}
	}
}
