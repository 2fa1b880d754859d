// Package cuttest proves on a real boot that a power cut does no harm, and that a device at rest writes nothing.
//
// It owns the test; the code is in images/powercut. It is a package of its own because it needs a finished image, which
// make powercut and make test build first. Read TestPowerCut first.
package cuttest
