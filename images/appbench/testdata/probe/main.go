// Command probe is the program that the containers of the bench run, and the one that asks them: a server that answers
// requests, and clients that count the answers of a server and of a name server. It prints one JSON object.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// result is what a client prints.
type result struct {
	PerSecond        float64
	Median, P99      float64 // milliseconds
	Failed, Answered int
}

func main() {
	arg := func(i int) string {
		if i < len(os.Args) {
			return os.Args[i]
		}
		return ""
	}
	n, _ := strconv.Atoi(arg(4))
	var err error
	switch arg(1) {
	case "serve": // ADDRESS
		err = http.ListenAndServe(arg(2), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "served\n") // the client counts
		}))
	case "load": // URL keep|close REQUESTS
		err = load(arg(2), arg(3) == "close", n)
	case "names": // SERVER NAME QUESTIONS; without a server that of resolv.conf
		err = names(arg(2), arg(3), n)
	default:
		err = fmt.Errorf("unknown command %q", arg(1))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

const clients = 8

// measure has clients ask n times together.
func measure(n int, ask func() error) error {
	var mu sync.Mutex // guards r and took
	var r result
	var took []float64
	begin := time.Now()
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for range n / clients {
				at := time.Now()
				err := ask()
				d := time.Since(at).Seconds() * 1000
				mu.Lock()
				if took = append(took, d); err != nil {
					if r.Failed++; r.Failed == 1 {
						fmt.Fprintln(os.Stderr, "probe:", err)
					}
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	r.Answered = len(took) - r.Failed
	r.PerSecond = float64(r.Answered) / time.Since(begin).Seconds()
	slices.Sort(took)
	r.Median, r.P99 = took[len(took)/2], took[len(took)*99/100]
	if r.Failed > r.Answered/100 {
		return fmt.Errorf("%d questions failed, %d were answered", r.Failed, r.Answered)
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

func load(url string, single bool, n int) error {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: single, MaxIdleConnsPerHost: clients}}
	return measure(n, func() error {
		resp, err := client.Get(url)
		if err != nil {
			return err
		}
		defer resp.Body.Close() // only read
		text, err := io.ReadAll(resp.Body)
		if err == nil && string(text) != "served\n" {
			err = fmt.Errorf("%s: %q", resp.Status, text)
		}
		return err
	})
}

func names(server, name string, n int) error {
	if server == "" {
		config, err := dns.ClientConfigFromFile("/etc/resolv.conf")
		if err != nil {
			return err
		}
		server = net.JoinHostPort(config.Servers[0], "53")
	}
	client := &dns.Client{Timeout: 5 * time.Second}
	free := make(chan *dns.Conn, clients)
	for range clients {
		conn, err := client.Dial(server)
		if err != nil {
			return err
		}
		free <- conn
	}
	return measure(n, func() error {
		conn := <-free
		defer func() { free <- conn }()
		q := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
		answer, _, err := client.ExchangeWithConn(q, conn)
		if err == nil && len(answer.Answer) != 1 {
			err = fmt.Errorf("%s: %s", server, strings.ReplaceAll(answer.String(), "\n", " "))
		}
		return err
	})
}
