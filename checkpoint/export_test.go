package checkpoint

// SealObject gives any body a right header, as a faulty or foreign writer would.
func SealObject(kind, body string) []byte { return seal(kind, []byte(body)) }

// Golden reads a file of testdata for the tests outside of the package.
var Golden = golden
