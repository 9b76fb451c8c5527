package proxy

import (
	"sync"

	"smtpseal/proxy/smtp"
)

// Buffers come in two sizes. A small one holds the longest command line, or an
// EHLO reply with what we add to it. A large one makes few system calls of a
// large message; a session gets one only after what came would fill a small one,
// so that many slow senders cannot take much memory.
const (
	smallSize = 2 * smtp.MaxLine
	largeSize = 256 << 10
)

var (
	smallPool = sync.Pool{New: func() any { return new([smallSize]byte) }}
	largePool = sync.Pool{New: func() any { return new([largeSize]byte) }}
)

// A buffer holds octets between two connections. It has storage only while
// there are some: an idle session holds none.
type buffer struct {
	small *[smallSize]byte
	large *[largeSize]byte
	mem   []byte // all of the one that is there
	r, w  int    // what is unread is mem[r:w]
	busy  bool   // what was there last would fill a small one: the next storage is large
}

// bytes returns what is unread.
func (b *buffer) bytes() []byte { return b.mem[b.r:b.w] }

func (b *buffer) empty() bool { return b.r == b.w }

// room returns where octets can be added, borrowing storage if there is none.
func (b *buffer) room() []byte {
	switch {
	case b.mem != nil:
	case b.busy:
		b.large = largePool.Get().(*[largeSize]byte)
		b.mem = b.large[:]
	default:
		b.small = smallPool.Get().(*[smallSize]byte)
		b.mem = b.small[:]
	}
	if b.r > 0 {
		b.w = copy(b.mem, b.mem[b.r:b.w])
		b.r = 0
	}
	return b.mem[b.w:]
}

// added says that n octets were put into the room.
func (b *buffer) added(n int) {
	b.w += n
	b.busy = b.w >= smallSize
}

// took says that n octets from the front are done with.
func (b *buffer) took(n int) {
	b.r += n
	b.giveBack()
}

// giveBack returns the storage if nothing is unread.
func (b *buffer) giveBack() {
	if b.r != b.w {
		return
	}
	if b.large != nil {
		largePool.Put(b.large)
	}
	if b.small != nil {
		smallPool.Put(b.small)
	}
	b.small, b.large, b.mem, b.r, b.w = nil, nil, nil, 0, 0
}

// drop forgets what is unread.
func (b *buffer) drop() { b.took(b.w - b.r) }
