// app is what runs in the test stack's pods, static and of no image but its own:
//
//	app                             holds a sandbox
//	app serve PORT... block ADDRESS... dial ADDRESS... http PORT... get URL...
//	app once URL...
//
// It answers every connection to a port with "<port> <original destination> <peer>", but resets those that were to go to a blocked address; connects to each address in turn, again and again, and
// prints "<address> <what answered>". Over HTTP it answers with "<peer> <X-Forwarded-Client-Cert>", and prints "<URL> <status> <what answered>",
// or with `once` ends when each URL has answered with 200.
package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
	"unsafe"
)

func main() {
	verb, asked := "", map[string][]string{}
	for _, word := range os.Args[1:] {
		switch {
		case word == "serve" || word == "block" || word == "dial" || word == "http" || word == "get" || word == "once":
			verb = word
		case verb == "http":
			go serveHTTP(word)
		default:
			asked[verb] = append(asked[verb], word)
		}
	}
	for _, port := range asked["serve"] {
		go serve(port, asked["block"])
	}
	for _, url := range asked["once"] {
		for status := 0; status != http.StatusOK; time.Sleep(100 * time.Millisecond) {
			var answer string
			status, answer = get(url)
			fmt.Println(url, answer)
		}
	}
	if len(asked["once"]) > 0 {
		return
	}
	if len(asked["dial"]) > 0 {
		go again(asked["dial"], ask)
	}
	if len(asked["get"]) > 0 {
		go again(asked["get"], func(url string) string { _, answer := get(url); return answer })
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	reaped := make(chan os.Signal, 1)
	signal.Notify(reaped, syscall.SIGCHLD)
	for {
		select {
		case <-stop:
			os.Exit(0)
		case <-reaped:
			for {
				if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
					break
				}
			}
		}
	}
}

func serve(port string, blocked []string) {
	listener, err := net.Listen("tcp", ":"+port)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			continue
		}
		to := original(conn.(*net.TCPConn))
		if slices.Contains(blocked, to) {
			conn.(*net.TCPConn).SetLinger(0)
		} else {
			fmt.Fprintf(conn, "%s %s %s", port, to, conn.RemoteAddr())
		}
		conn.Close()
	}
}

// original is where the peer wanted to go: SO_ORIGINAL_DST where the connection was redirected, else its local address.
func original(conn *net.TCPConn) string {
	const soOriginalDst = 80
	var address string
	raw, err := conn.SyscallConn()
	if err != nil {
		return err.Error()
	}
	raw.Control(func(fd uintptr) {
		var sa [16]byte
		size := uint32(len(sa))
		_, _, errno := syscall.Syscall6(syscall.SYS_GETSOCKOPT, fd, syscall.IPPROTO_IP, soOriginalDst, uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)), 0)
		if errno == 0 {
			address = fmt.Sprintf("%s:%d", net.IP(sa[4:8]), binary.BigEndian.Uint16(sa[2:4]))
		}
	})
	if address == "" {
		return conn.LocalAddr().String()
	}
	return address
}

func serveHTTP(port string) {
	fmt.Println(http.ListenAndServe(":"+port, http.HandlerFunc(func(to http.ResponseWriter, request *http.Request) {
		fmt.Fprintf(to, "%s %s", request.RemoteAddr, request.Header.Get("X-Forwarded-Client-Cert"))
	})))
	os.Exit(1)
}

// client has a connection for each request, as if every one came from another process.
var client = http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

func get(url string) (int, string) {
	response, err := client.Get(url)
	if err != nil {
		return 0, "error " + err.Error()
	}
	defer response.Body.Close()
	answer, _ := io.ReadAll(response.Body)
	return response.StatusCode, fmt.Sprint(response.StatusCode, " ", string(answer))
}

func again(addresses []string, ask func(string) string) {
	for {
		for _, address := range addresses {
			fmt.Println(address, ask(address))
		}
		time.Sleep(300 * time.Millisecond)
	}
}

func ask(address string) string {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return "error " + err.Error()
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second))
	answer, err := io.ReadAll(conn)
	if err != nil {
		return "error " + err.Error()
	}
	return string(answer)
}
