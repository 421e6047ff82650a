//go:build !faultpoints

package inject

// Point does nothing in this build.
func Point(string) {}
