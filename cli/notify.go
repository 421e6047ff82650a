package cli

import (
	"net"
	"os"
)

// notify tells systemd, when it started us with Type=notify. It needs no library: one datagram.
func notify(state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	if path[0] == '@' {
		path = "\x00" + path[1:]
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }() //nolint:errcheck // nothing depends on it
	_, _ = conn.Write([]byte(state))    //nolint:errcheck // systemd's own timeout tells of it
}
