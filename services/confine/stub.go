package confine
import ("time";"resinos/services/spec";"errors")
const Variable = "RESINOS_LAUNCH"
type Launch struct { Command []string; User, Group string; Groups []string; Sandbox spec.Sandbox; Listen int; Names []string; Watchdog time.Duration; ReadyFrom, ReadyTo int }
func (l Launch) Needed() bool { return false }
func (l Launch) Encode() (string, error) { return "", errors.New("x") }
func ExitText(code int) string { return "" }
