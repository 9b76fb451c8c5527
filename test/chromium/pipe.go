package chromium

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// A pipe speaks the DevTools protocol: JSON, each message ended by NUL. A
// message with a session is of one tab.
type pipe struct {
	out, in *os.File

	mu      sync.Mutex
	last    int
	waiting map[int]chan message
	tabs    map[string]func(message) // who hears a session's events
	gone    chan struct{}
}

type message struct {
	ID      int             `json:"id,omitempty"`
	Session string          `json:"sessionId,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  json.RawMessage `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

// maxMessage bounds one of the browser's: a screenshot is a few MB.
const maxMessage = 64 << 20

func newPipe(out, in *os.File) *pipe {
	p := &pipe{out: out, in: in, waiting: map[int]chan message{}, tabs: map[string]func(message){}, gone: make(chan struct{})}
	go p.read()
	return p
}

// read hands each message to whom it is for, until the browser is gone.
func (p *pipe) read() {
	defer close(p.gone)
	scanner := bufio.NewScanner(p.in)
	scanner.Buffer(nil, maxMessage)
	scanner.Split(func(data []byte, _ bool) (int, []byte, error) {
		for i, octet := range data {
			if octet == 0 {
				return i + 1, data[:i], nil
			}
		}
		return 0, nil, nil
	})
	for scanner.Scan() {
		var m message
		if json.Unmarshal(scanner.Bytes(), &m) == nil {
			p.deliver(m)
		}
	}
}

func (p *pipe) deliver(m message) {
	p.mu.Lock()
	answer, tab := p.waiting[m.ID], p.tabs[m.Session]
	delete(p.waiting, m.ID)
	p.mu.Unlock()
	switch {
	case answer != nil:
		answer <- m
	case tab != nil && m.Method != "":
		tab(m)
	}
}

// send sends a command; the answer comes to the channel.
func (p *pipe) send(session, method string, params any) (chan message, error) {
	if params == nil {
		params = struct{}{}
	}
	body, err := json.Marshal(params)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last++
	text, err := json.Marshal(message{ID: p.last, Session: session, Method: method, Params: body})
	if err != nil {
		return nil, err
	}
	answer := make(chan message, 1)
	p.waiting[p.last] = answer
	_, err = p.out.Write(append(text, 0))
	return answer, err
}

// call sends a command and reads its answer.
func (p *pipe) call(session, method string, params, result any) error {
	answer, err := p.send(session, method, params)
	if err != nil {
		return err
	}
	select {
	case m := <-answer:
		if m.Error != nil {
			return fmt.Errorf("%s: %s", method, m.Error.Message)
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(m.Result, result)
	case <-p.gone:
		return errors.New("it has ended")
	case <-time.After(patience):
		return fmt.Errorf("%s: no answer in %s", method, patience)
	}
}

func (p *pipe) listen(session string, hear func(message)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tabs[session] = hear
}

func (p *pipe) close() {
	p.out.Close()
	p.in.Close()
	<-p.gone
}
