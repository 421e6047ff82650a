// Package integration proves the daemon on real servers in containers, as a real process that is killed at the points of the
// protocol. Its tests carry the build tag integration: `make integration`.
package integration
