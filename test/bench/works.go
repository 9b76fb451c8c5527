package main

import (
	"context"
	"time"
)

// A row is one figure of the table, with the targets for the proxy under
// test; a target of 0 is none.
type row struct {
	Name          string
	Unit          string
	BesideNaive   float64 // at most so many times the naive proxy's, in the same repeat
	BesideHAProxy float64 // … HAProxy's
	AtMost        float64 // the figure itself
	AtLeast       float64
}

// A work is something to do to an instance, and the rows it yields one figure
// each for, in their order.
type work struct {
	name     string // for -only and the progress
	startTLS bool   // only for peers that can
	rows     []row
	run      func(ctx context.Context, b *rig, i *instance) ([]float64, error)
}

// size is how much of each work is done.
type size struct {
	visits  int // connections, a measurement
	reuse   int // messages on one connection
	bodies  int // large bodies
	large   int // octets of one
	noops   int // round trips
	idle    int // sessions at once
	settles settling
}

var (
	fullSize = size{visits: 2000, reuse: 4000, bodies: 16, large: 50 << 20, noops: 3000, idle: 5000,
		settles: settling{Still: 8 * time.Second, Most: 20 * time.Second}}
	quickSize = size{visits: 200, reuse: 400, bodies: 1, large: 8 << 20, noops: 300, idle: 200,
		settles: settling{Still: 500 * time.Millisecond, Most: 2 * time.Second}}
)

// works are measured in this order.
var works = []work{
	{name: "handshake", run: measureHandshake, rows: []row{
		{Name: "connect, handshake, EHLO, QUIT on 465", Unit: "µs", BesideNaive: 1.05, BesideHAProxy: 0.80}}},
	{name: "resumed", run: measureResumed, rows: []row{
		{Name: "the same, resumed", Unit: "µs", BesideNaive: 1.05, BesideHAProxy: 0.80},
		{Name: "offered resumptions taken", Unit: "%", AtLeast: 100}}},
	{name: "starttls", startTLS: true, run: measureStartTLS, rows: []row{
		{Name: "the same by STARTTLS on 587", Unit: "µs", BesideNaive: 1.05}}},
	{name: "wall", startTLS: true, run: measureWall, rows: []row{
		{Name: "wall time of a session on 465", Unit: "ms"},
		{Name: "wall time of a session on 587", Unit: "ms"},
		{Name: "587 beyond 465", Unit: "ms", AtMost: 2}}},
	{name: "message", run: measureMessage, rows: []row{
		{Name: "one 10 KiB message a connection", Unit: "µs", BesideNaive: 1.00, BesideHAProxy: 0.85}}},
	{name: "reuse", run: measureReuse, rows: []row{
		{Name: "many 10 KiB messages on one connection", Unit: "µs", BesideNaive: 1.00, BesideHAProxy: 1.05}}},
	{name: "bulk", run: measureBulk, rows: []row{
		{Name: "a 50 MiB body", Unit: "s/GiB", BesideNaive: 0.70, BesideHAProxy: 0.65}}},
	{name: "hostile", run: measureHostile, rows: hostileRows()},
	{name: "noop", run: measureNoop, rows: []row{
		{Name: "NOOP round trip added, median", Unit: "µs", BesideNaive: 1.00, BesideHAProxy: 1.00}}},
	{name: "idle", run: measureIdle, rows: []row{
		{Name: "memory per idle session, before any mail", Unit: "KiB", BesideNaive: 0.40, BesideHAProxy: 1.1},
		{Name: "the same after a 100 KiB message each", Unit: "KiB", BesideNaive: 0.45, BesideHAProxy: 3.5}}},
}

func hostileRows() []row {
	var rows []row
	for _, h := range hostileBodies {
		rows = append(rows, row{Name: "a body of " + h.name, Unit: "× ordinary", AtMost: 3})
	}
	return rows
}
