package main

import (
	"context"
	"net"
	"reflect"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"smtpseal/admin"
	"smtpseal/certs"
	"smtpseal/config"
)

// An administration is the admin listener of one configuration. It lives as
// long as that part of the configuration does not change. A nil one is none.
type administration struct {
	made    config.Admin
	server  *admin.Server
	nets    []net.Listener // copies
	serving sync.WaitGroup
	log     *zap.Logger
}

// prepareAdmin goes on with the admin listener that there is, unless it is to
// be another.
func (s *service) prepareAdmin(next, before *setup) error {
	c := next.config.Admin
	if before.admin != nil && reflect.DeepEqual(before.admin.made, c) {
		next.admin = before.admin
		return nil
	}
	nets, err := copies(next.sockets.nets(forAdmin))
	if err != nil || len(nets) == 0 {
		return err
	}
	next.admin = &administration{made: c, nets: nets, log: s.log, server: &admin.Server{
		Status: s.status,
		Drain:  s.askToEnd,
		Reload: s.reloadFor,
		Renew:  s.renew,
		Hosts:  append(hostsOf(c.Listen), c.Hosts...),
		Pprof:  c.Pprof,
		Log:    s.log,
	}}
	return nil
}

func (a *administration) serve() {
	if a == nil {
		return
	}
	for _, l := range a.nets {
		a.serving.Go(func() {
			if err := a.server.Serve(l); err != nil {
				a.log.Error("the admin listener ended", zap.Stringer("address", l.Addr()), zap.Error(err))
			}
		})
	}
}

// lastAnswer bounds how long an end waits for requests under way: one may be
// for a profile of half a minute.
const lastAnswer = 2 * time.Second

func (a *administration) stop() {
	if a == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), lastAnswer)
	defer cancel()
	a.server.Shutdown(ctx)
	a.serving.Wait()
}

// close gives up what was never served.
func (a *administration) close() {
	if a != nil {
		closeAll(a.nets)
	}
}

// reloadFor is a reload on request.
func (s *service) reloadFor(ctx context.Context) admin.Reload {
	return resultOf(s.reload(ctx))
}

// renew obtains certificates for a name.
func (s *service) renew(ctx context.Context, name string) error {
	source := s.now.Load().keeping.source
	ours := slices.ContainsFunc(source.Certificates(), func(c certs.Certificate) bool { return c.Name == name })
	if !ours {
		return admin.ErrNoSuchName
	}
	return source.Renew(ctx, name)
}

// hostsOf are the names in addresses to listen on.
func hostsOf(addresses []config.Address) (all []string) {
	for _, a := range addresses {
		if host, _, err := net.SplitHostPort(a.Addr); err == nil && a.Network == "tcp" && host != "" {
			all = append(all, host)
		}
	}
	return all
}
