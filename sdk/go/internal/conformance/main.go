// The runner of the conformance suite for Go: reads commands, one JSON object a line, and does with the SDK what they
// say. What they are, and what is answered, stands in sdk/conformance/README.md. It decides and compares nothing.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	phasegate "github.com/phasegate/phasegate/sdk/go"
)

// command is all members that any command has.
type command struct {
	ID json.RawMessage `json:"id"`
	Do string          `json:"do"`

	Client string `json:"client"`
	Watch  string `json:"watch"`

	// Of open.
	Address     string   `json:"address"`
	Principal   *string  `json:"principal"`
	Groups      []string `json:"groups"`
	Token       *string  `json:"token"`
	TokenFile   *string  `json:"tokenFile"`
	CA          *string  `json:"ca"`
	Certificate *string  `json:"certificate"`
	Key         *string  `json:"key"`
	TimeoutMs   *int64   `json:"timeoutMs"`
	SilenceMs   *int64   `json:"silenceMs"`
	Retry       *struct {
		Attempts  *int   `json:"attempts"`
		FirstMs   *int64 `json:"firstMs"`
		LongestMs *int64 `json:"longestMs"`
	} `json:"retry"`

	// Of call.
	Method  string          `json:"method"`
	Request json.RawMessage `json:"request"`

	// Of watch.
	Kind   string          `json:"kind"`
	Name   string          `json:"name"`
	Filter json.RawMessage `json:"filter"`
	From   *position       `json:"from"`
}

type position struct {
	Revision int64  `json:"revision,string"`
	StoreID  string `json:"storeId"`
}

// object is a JSON object of an answer.
type object map[string]any

// senseless is the error of a command that makes no sense.
type senseless string

func (s senseless) Error() string { return string(s) }

func nonsense(format string, parts ...any) error { return senseless(fmt.Sprintf(format, parts...)) }

// runner is what is kept under a name.
type runner struct {
	mu      sync.Mutex
	clients map[string]*phasegate.Client
	watches map[string]*watch
}

func main() {
	runner := &runner{clients: map[string]*phasegate.Client{}, watches: map[string]*watch{}}
	if err := runner.serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func (r *runner) serve(commands io.Reader, answers io.Writer) error {
	var writing sync.Mutex
	write := func(answer object) {
		line, err := json.Marshal(answer)
		if err != nil {
			panic(err) // It is made of what JSON can say.
		}
		writing.Lock()
		defer writing.Unlock()
		_, _ = answers.Write(append(line, '\n'))
	}
	read := bufio.NewScanner(commands)
	read.Buffer(nil, 64<<20)
	for read.Scan() {
		var command command
		if err := json.Unmarshal(read.Bytes(), &command); err != nil {
			write(answerTo(command.ID, nil, nonsense("%v", err)))
			continue
		}
		// What makes and drops things is done in the order in which it is said; the rest takes as long as it takes.
		switch command.Do {
		case "call", "open":
			go func() { write(r.answer(command)) }()
		case "next":
			r.next(command, write)
		default:
			write(r.answer(command))
		}
	}
	return read.Err()
}

func answerTo(id json.RawMessage, ok any, err error) object {
	if len(id) == 0 {
		id = json.RawMessage("null")
	}
	if err != nil {
		return object{"id": id, "error": errorObject(err)}
	}
	return object{"id": id, "ok": ok}
}

func (r *runner) answer(command command) object {
	ok, err := r.do(command)
	return answerTo(command.ID, ok, err)
}

func (r *runner) do(command command) (any, error) {
	switch command.Do {
	case "info":
		return object{"client": "go"}, nil
	case "open":
		client, err := open(command)
		if err != nil {
			return nil, err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.clients[command.Client] = client
		return object{}, nil
	case "call":
		client, err := r.client(command.Client)
		if err != nil {
			return nil, err
		}
		return call(client, command.Method, command.Request)
	case "watch":
		client, err := r.client(command.Client)
		if err != nil {
			return nil, err
		}
		begun, err := begin(client, command)
		if err != nil {
			return nil, err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.watches[command.Watch] = begun
		return object{}, nil
	case "stop":
		watch, err := r.watch(command.Watch)
		if err != nil {
			return nil, err
		}
		watch.stop()
		return object{}, nil
	case "close":
		client, err := r.client(command.Client)
		if err != nil {
			return nil, err
		}
		client.Close()
		return object{}, nil
	default:
		return nil, nonsense("there is no command %q", command.Do)
	}
}

// next is answered when the watch has an update.
func (r *runner) next(command command, write func(object)) {
	watch, err := r.watch(command.Watch)
	if err != nil {
		write(answerTo(command.ID, nil, err))
		return
	}
	watch.ask(func(update any, err error) { write(answerTo(command.ID, update, err)) })
}

func (r *runner) client(name string) (*phasegate.Client, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if client, known := r.clients[name]; known {
		return client, nil
	}
	return nil, nonsense("there is no client %q", name)
}

func (r *runner) watch(name string) (*watch, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if watch, known := r.watches[name]; known {
		return watch, nil
	}
	return nil, nonsense("there is no watch %q", name)
}

func open(command command) (*phasegate.Client, error) {
	var options []phasegate.Option
	given := func(text *string, option func(string) phasegate.Option) {
		if text != nil {
			options = append(options, option(*text))
		}
	}
	given(command.Principal, phasegate.WithPrincipal)
	given(command.Token, phasegate.WithToken)
	given(command.TokenFile, phasegate.WithTokenFile)
	given(command.CA, phasegate.WithCAFile)
	if command.Groups != nil {
		options = append(options, phasegate.WithGroups(command.Groups...))
	}
	if command.Certificate != nil && command.Key != nil {
		options = append(options, phasegate.WithCertificateFiles(*command.Certificate, *command.Key))
	}
	if command.TimeoutMs != nil {
		options = append(options, phasegate.WithTimeout(milliseconds(*command.TimeoutMs)))
	}
	if command.SilenceMs != nil {
		options = append(options, phasegate.WithSilence(milliseconds(*command.SilenceMs)))
	}
	if given := command.Retry; given != nil {
		retry := phasegate.DefaultRetry
		if given.Attempts != nil {
			retry.Attempts = *given.Attempts
		}
		if given.FirstMs != nil {
			retry.First = milliseconds(*given.FirstMs)
		}
		if given.LongestMs != nil {
			retry.Longest = milliseconds(*given.LongestMs)
		}
		options = append(options, phasegate.WithRetry(retry))
	}
	return phasegate.New(command.Address, options...)
}

func milliseconds(count int64) time.Duration { return time.Duration(count) * time.Millisecond }
