// Package loopback finds addresses for programs that cannot be told to take
// any free port and say which.
package loopback

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// The ports handed out lie below the range from which Linux takes the ports of
// outgoing connections (32768 and up), or a test with thousands of clients
// would sometimes hold the very port that was promised.
const first, count = 10000, 22000

// taken has what this process was given already. Other processes start
// elsewhere in the range.
var taken = struct {
	sync.Mutex
	next int
}{next: rand.IntN(count)}

// Free returns host:port, a free port of a loopback address. It stays free as
// long as no other program happens to choose it.
func Free(host string) (string, error) {
	taken.Lock()
	defer taken.Unlock()
	var last error
	for range count {
		addr := net.JoinHostPort(host, strconv.Itoa(first+taken.next))
		taken.next = (taken.next + 1) % count
		listener, err := net.Listen("tcp", addr)
		if err == nil {
			return addr, listener.Close()
		}
		last = err
	}
	return "", fmt.Errorf("no free port on %s: %w", host, last)
}
