package development

import "testing"

func TestLacks(t *testing.T) {
	if err := Lacks([]string{"getty", "sshd", "docker", "netd", "logd"}); err != nil {
		t.Errorf("an image with everything lacks: %v", err)
	}
	const want = "not in this image: console (a shell on the serial line and the screen: no service getty), " +
		"docker (Docker's API: no service docker)"
	if err := Lacks([]string{"sshd", "netd"}); err == nil || err.Error() != want {
		t.Errorf("a production image lacks: %v, want %s", err, want)
	}
}
