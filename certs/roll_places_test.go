package certs

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
)

// Each call of an operator is a process of its own, and names the places once.
func TestRollRemembersItsPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newRollRig(t)
		another := func(hosts []string, ports ...int) *Roll {
			r, _ := rig.roll(-1, false)
			r.Hosts, r.Ports, r.Zone = hosts, ports, nil
			return r
		}
		r := another(nil)
		if err := r.Resume(t.Context()); err != nil || r.Ports != nil || r.Hosts != nil {
			t.Errorf("nothing is under way: %v %v %v", r.Ports, r.Hosts, err)
		}
		_, err := another([]string{"mail.example.org"}, 465, 25).Begin(t.Context())
		must(t, err)
		if begun, err := another([]string{"*.example.org"}).Begun(t.Context()); !begun || err != nil {
			t.Error(begun, err)
		}
		_, err = another(nil, 25).Begin(t.Context()) // whoever writes it anew forgets nothing
		must(t, err)
		for _, c := range []struct {
			hosts []string
			ports []int
			why   string
		}{
			{nil, nil, ""},
			{nil, []int{25, 465}, ""},
			{[]string{"mail.example.org"}, nil, ""},
			{nil, []int{25}, "begun for [465 25], not [25]"},
			{[]string{"mx.example.org"}, nil, "begun for [mail.example.org], not [mx.example.org]"},
		} {
			r := another(c.hosts, c.ports...)
			err := r.Resume(t.Context())
			if c.why != "" {
				refusedRoll(t, err, c.why)
				continue
			}
			if err != nil || len(r.Ports) != 2 || !slices.Equal(r.Hosts, []string{"mail.example.org"}) {
				t.Errorf("%v: %v %v %v", c, r.Ports, r.Hosts, err)
			}
		}
		r = another(nil)
		must(t, r.Resume(t.Context()))
		if remove, err := r.Abandon(t.Context()); err != nil || len(remove) != 2 {
			t.Errorf("to remove: %v, %v", remove, err)
		}
		if begun, err := r.Begun(t.Context()); begun || err != nil {
			t.Error(begun, err)
		}
		if r = another(nil); r.Resume(t.Context()) != nil || r.Ports != nil {
			t.Errorf("behind it: %v", r.Ports)
		}
	})
}

// A record that is damaged must not keep its roll-over from being abandoned.
func TestRollResumesPastDamage(t *testing.T) {
	rig := newRollRig(t)
	r, _ := rig.roll(-1, false)
	rig.memory.values[r.file("state.json")] = []byte("{")
	if err := r.Resume(t.Context()); err != nil {
		t.Error(err)
	}
	r, p := rig.roll(-1, false)
	p.lives = 0
	if err := r.Resume(t.Context()); !errors.Is(err, errKilled) {
		t.Error(err)
	}
}
