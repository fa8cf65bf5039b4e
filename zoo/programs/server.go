// Go's x/crypto/ssh and pkg/sftp as a server: commands by /bin/sh, SFTP, forwards.
//
// Built and run by zoo.servers.golang. Arguments: host key file, user, password, authorized_keys
// file, folder that is the home. Prints "ready PORT", ends with stdin.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(channel ssh.Channel, command string) {
	child := exec.Command("/bin/sh", "-c", command)
	input, err := child.StdinPipe()
	if err != nil {
		return
	}
	child.Stdout = channel
	child.Stderr = channel.Stderr()
	status := uint32(127)
	if err := child.Start(); err == nil {
		go func() {
			io.Copy(input, channel)
			input.Close()
		}()
		child.Wait()
		status = uint32(child.ProcessState.ExitCode())
	}
	channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
	channel.Close()
}

func serveSession(wanted ssh.NewChannel) {
	channel, requests, err := wanted.Accept()
	if err != nil {
		return
	}
	for request := range requests {
		var text struct{ Value string }
		ok := false
		switch request.Type {
		case "exec":
			ok = ssh.Unmarshal(request.Payload, &text) == nil
			if ok {
				go run(channel, text.Value)
			}
		case "subsystem":
			ok = ssh.Unmarshal(request.Payload, &text) == nil && text.Value == "sftp"
			if ok {
				go func() {
					server, err := sftp.NewServer(channel)
					if err == nil {
						server.Serve()
					}
					channel.Close()
				}()
			}
		}
		request.Reply(ok, nil)
	}
}

func serveForward(wanted ssh.NewChannel) {
	var to struct {
		Host       string
		Port       uint32
		Origin     string
		OriginPort uint32
	}
	if ssh.Unmarshal(wanted.ExtraData(), &to) != nil {
		wanted.Reject(ssh.ConnectionFailed, "not understood")
		return
	}
	peer, err := net.Dial("tcp", net.JoinHostPort(to.Host, fmt.Sprint(to.Port)))
	if err != nil {
		wanted.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	channel, requests, err := wanted.Accept()
	if err != nil {
		peer.Close()
		return
	}
	go ssh.DiscardRequests(requests)
	go func() {
		io.Copy(peer, channel)
		peer.(*net.TCPConn).CloseWrite()
	}()
	io.Copy(channel, peer)
	channel.Close()
	peer.Close()
}

func serve(client net.Conn, config *ssh.ServerConfig) {
	_, channels, requests, err := ssh.NewServerConn(client, config)
	if err != nil {
		client.Close()
		return
	}
	go ssh.DiscardRequests(requests)
	for wanted := range channels {
		switch wanted.ChannelType() {
		case "session":
			go serveSession(wanted)
		case "direct-tcpip":
			go serveForward(wanted)
		default:
			wanted.Reject(ssh.UnknownChannelType, "not here")
		}
	}
}

func main() {
	hostKey, user, password, authorized, home := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]
	check(os.Chdir(home))
	os.Setenv("HOME", home)
	lines, err := os.ReadFile(authorized)
	check(err)
	allowed, _, _, _, err := ssh.ParseAuthorizedKey(lines)
	check(err)
	refused := errors.New("refused")
	config := &ssh.ServerConfig{
		PasswordCallback: func(who ssh.ConnMetadata, given []byte) (*ssh.Permissions, error) {
			if who.User() == user && string(given) == password {
				return nil, nil
			}
			return nil, refused
		},
		PublicKeyCallback: func(who ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if who.User() == user && bytes.Equal(key.Marshal(), allowed.Marshal()) {
				return nil, nil
			}
			return nil, refused
		},
	}
	config.RekeyThreshold = 1 << 20
	pem, err := os.ReadFile(hostKey)
	check(err)
	signer, err := ssh.ParsePrivateKey(pem)
	check(err)
	config.AddHostKey(signer)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	fmt.Println("ready", listener.Addr().(*net.TCPAddr).Port)
	go func() {
		for {
			client, err := listener.Accept()
			check(err)
			go serve(client, config)
		}
	}()
	io.Copy(io.Discard, os.Stdin)
}
