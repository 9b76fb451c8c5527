package dns

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libdns/libdns"
)

func TestVendorAddsAndRemoves(t *testing.T) {
	everyVendor(t, func(t *testing.T, r *rig) {
		r.good(r.append(txt(valueA)))
		r.want(testName, valueA)
		if found := r.find(testName, "TXT"); len(found) == 1 && found[0].ttl != 90 {
			t.Errorf("TTL %d, want 90", found[0].ttl)
		}
		r.good(r.delete(txt(valueA)))
		r.want(testName)
	})
}

// The challenges of a name and of its wildcard are at one name (RFC 8555
// section 8.4).
func TestVendorKeepsTwoValuesOfOneName(t *testing.T) {
	everyVendor(t, func(t *testing.T, r *rig) {
		r.good(r.append(txt(valueA)))
		r.good(r.append(txt(valueB)))
		r.want(testName, valueA, valueB)
		r.good(r.delete(txt(valueA)))
		r.want(testName, valueB)
		r.good(r.delete(txt(valueB)))
		r.good(r.append(slices.Concat(txt(valueA), txt(valueB), txt(valueA))))
		r.want(testName, valueA, valueB)
		r.good(r.delete(slices.Concat(txt(valueA), txt(valueB))))
		r.want(testName)
	})
}

func TestVendorLeavesRecordsOfOthersAlone(t *testing.T) {
	everyVendor(t, func(t *testing.T, r *rig) {
		r.put(testName, "TXT", "somebody else's", 3600)
		r.put(testName, "A", "192.0.2.1", 3600)
		r.put("_acme-challenge.example.org", "TXT", valueA, 3600)
		r.good(r.append(txt(valueA)))
		r.want(testName, valueA, "somebody else's")
		r.good(r.delete(txt(valueA)))
		r.want(testName, "somebody else's")
		r.want("_acme-challenge.example.org", valueA)
		if len(r.find(testName, "A")) != 1 {
			t.Error("A record is gone")
		}
	})
}

func TestVendorFindsApexAndEveryPage(t *testing.T) {
	everyVendor(t, func(t *testing.T, r *rig) {
		r.pad = 205 // more than a page of anything
		if r.vendor.name == "ovh" {
			r.pad = 50 // has no pages
		}
		apex := []libdns.Record{libdns.TXT{Name: "@", Text: valueA}}
		r.good(r.append(apex))
		r.good(r.append(apex)) // found again behind all the others
		r.want("example.org", valueA)
		r.good(r.delete(apex))
		r.want("example.org")
	})
}

func TestVendorDoesNothingTwice(t *testing.T) {
	everyVendor(t, func(t *testing.T, r *rig) {
		r.good(r.append(txt(valueA)))
		r.good(r.append(txt(valueA)))
		r.want(testName, valueA)
		r.good(r.delete(txt(valueB)))
		r.want(testName, valueA)
		r.good(r.delete(txt(valueA)))
		r.good(r.delete(txt(valueA)))
	})
}

func TestVendorRaisesTTL(t *testing.T) {
	everyVendor(t, func(t *testing.T, r *rig) {
		r.good(r.append([]libdns.Record{libdns.TXT{Name: "a", Text: valueA}}))
		if got, want := r.find("a.example.org", "TXT")[0].ttl, int(r.lowest/time.Second); got != want {
			t.Errorf("TTL %d, want the lowest %d", got, want)
		}
	})
}

// Replicas share an account: nobody's value may be lost by another's.
func TestVendorAddsAtTheSameTime(t *testing.T) {
	everyVendor(t, func(t *testing.T, r *rig) {
		values := []string{"value-1", "value-2", "value-3"}
		var done sync.WaitGroup
		for _, value := range values {
			done.Go(func() {
				if err := r.append(txt(value)); err != nil {
					t.Error(err)
				}
			})
		}
		done.Wait()
		r.want(testName, values...)
	})
}

func TestVendorRefusesToken(t *testing.T) {
	for name, c := range vendorCases() {
		for key, value := range c.wrong {
			t.Run(name+" "+key, func(t *testing.T) {
				t.Parallel()
				settings := Settings{}
				for k, v := range c.settings {
					settings[k] = v
				}
				settings[key] = value
				r := newRig(t, c, settings)
				err := r.append(txt(valueA))
				r.bad(err, c.needs)
				r.quiet(settings, err)
				if len(r.calls) > 3 {
					t.Errorf("a wrong token was tried again: %q", r.calls)
				}
				r.want(testName)
			})
		}
	}
}

func TestVendorHasNoSuchZone(t *testing.T) {
	everyVendor(t, func(t *testing.T, r *rig) {
		_, err := r.AppendRecords(t.Context(), "example.net.", txt(valueA))
		r.bad(err, "example.net", "no such zone", r.rights)
		_, err = r.DeleteRecords(t.Context(), "example.net.", txt(valueA))
		r.bad(err, "example.net", "no such zone")
	})
}
