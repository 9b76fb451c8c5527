package pebble

import (
	"crypto/x509"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/letsencrypt/pebble/v2/core"
)

// A ledger knows which orders and accounts there are: Pebble's store finds
// them by id only. It is guarded by CA.requests.
type ledger struct {
	next             http.Handler
	orders, accounts []string // ids, oldest first
}

// An Order is what a client has ordered, as it is now.
type Order struct {
	ID, Account string
	Names       []string // DNS names and addresses, sorted
	Profile     string
	Replaces    string // RFC 9773 section 5
	Status      string // RFC 8555 section 7.1.6; valid: there is a certificate
	Error       string // of an invalid one
	Certificate *x509.Certificate
}

// An Account is one that a client has made.
type Account struct {
	ID      string
	Contact []string
	EAB     bool // was bound to an external account
	Valid   bool // not deactivated
}

// record lets Pebble answer, and notes what it made by its Location.
func (c *CA) record(w http.ResponseWriter, r *http.Request) {
	c.requests.RLock()
	c.ledger.next.ServeHTTP(w, r)
	c.requests.RUnlock()
	location := w.Header().Get("Location")
	if location == "" {
		return
	}
	c.requests.Lock()
	defer c.requests.Unlock()
	for path, list := range map[string]*[]string{orderPath: &c.ledger.orders, accountPath: &c.ledger.accounts} {
		if _, id, ok := strings.Cut(location, path); ok && !slices.Contains(*list, id) {
			*list = append(*list, id)
		}
	}
}

// Orders returns the orders that contain name, oldest first; all without one.
func (c *CA) Orders(name string) []Order {
	c.requests.Lock()
	defer c.requests.Unlock()
	var orders []Order
	for _, id := range c.ledger.orders {
		o := c.store.GetOrderByID(id)
		if o == nil {
			continue
		}
		if order := readOrder(o); name == "" || slices.Contains(order.Names, name) {
			orders = append(orders, order)
		}
	}
	return orders
}

func readOrder(o *core.Order) Order {
	o.RLock()
	defer o.RUnlock()
	order := Order{ID: o.ID, Account: o.AccountID, Profile: o.Profile, Replaces: o.Replaces, Status: o.Status}
	for _, id := range o.Identifiers {
		order.Names = append(order.Names, id.Value)
	}
	slices.Sort(order.Names)
	if o.Error != nil {
		order.Error = o.Error.Detail
	}
	if o.CertificateObject != nil {
		order.Certificate = o.CertificateObject.Cert
	}
	return order
}

// FinalizedOrders counts the orders that got as far as a certificate, also one
// that nobody fetched. This is the number to assert: a refused nonce repeats
// requests, and a failed validation leaves an order behind.
func (c *CA) FinalizedOrders() int { return len(c.Certificates("")) }

// Certificates returns what was issued for orders with name (all without one),
// oldest order first.
func (c *CA) Certificates(name string) []*x509.Certificate {
	var issued []*x509.Certificate
	for _, o := range c.Orders(name) {
		if o.Certificate != nil {
			issued = append(issued, o.Certificate)
		}
	}
	return issued
}

// Serials is Certificates as serial numbers, in hexadecimal of whole
// octets.
func (c *CA) Serials(name string) []string {
	var serials []string
	for _, cert := range c.Certificates(name) {
		serials = append(serials, hex.EncodeToString(cert.SerialNumber.Bytes()))
	}
	return serials
}

// Accounts returns the accounts, oldest first.
func (c *CA) Accounts() []Account {
	c.requests.Lock()
	defer c.requests.Unlock()
	var accounts []Account
	for _, id := range c.ledger.accounts {
		if a := c.store.GetAccountByID(id); a != nil {
			accounts = append(accounts, Account{
				ID: id, Contact: slices.Clone(a.Contact), EAB: a.ExternalAccountBinding != nil, Valid: a.Status == "valid",
			})
		}
	}
	return accounts
}

// WaitFinalized waits until n orders have a certificate, at most for d, and
// returns how many have.
func (c *CA) WaitFinalized(n int, d time.Duration) int {
	end := time.Now().Add(d)
	for {
		if got := c.FinalizedOrders(); got >= n || time.Now().After(end) {
			return got
		}
		time.Sleep(20 * time.Millisecond)
	}
}
