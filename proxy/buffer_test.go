package proxy

import (
	"bytes"
	"net"
	"testing"
	"time"
)

// Only a read that has filled a small storage may ask for a large one: many
// slow senders must not take 256 KiB each.
func TestBufferStaysSmallForSmallReads(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	sender, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var w wire
	w.init(conn)
	var b buffer
	w.poll(&b) // nothing is there
	conn.SetReadDeadline(time.Now().Add(time.Millisecond))
	w.fill(&b) // nothing comes
	conn.SetReadDeadline(time.Now().Add(patience))
	if b.mem != nil {
		t.Error("storage is held though nothing is there")
	}
	sender.Write([]byte("a"))
	if err := w.fill(&b); err != nil || len(b.mem) != smallSize {
		t.Errorf("one octet is held in storage of %d (%v)", len(b.mem), err)
	}
	b.drop()
	sender.Write(bytes.Repeat([]byte("a"), 3*smallSize))
	largest := 0
	for got := 0; got < 3*smallSize; {
		if err := w.fill(&b); err != nil {
			t.Fatal(err)
		}
		largest = max(largest, len(b.mem))
		got += len(b.bytes())
		b.drop()
	}
	if largest != largeSize {
		t.Errorf("a fast sender is read into storage of %d", largest)
	}
}
