// Package servicebench owns the measurements of our PID 1 beside the service managers of others: finit, s6 and runit as
// Debian ships them, and pebble. Each becomes PID 1 of name spaces of its own on a tmpfs and keeps the same services
// running; one observer looks at all of them. It holds tests only, which no device carries and which do nothing unless
// RESINOS_BENCH is set (make bench-services). It never judges: it prints what it saw. Read the table managers in
// managers_test.go first, then measure in sample_test.go.
package servicebench
