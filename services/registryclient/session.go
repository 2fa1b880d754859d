package registryclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"resinos/services/registries"
)

// session is the way of every request to one host, of redirects and of those for tokens too.
type session struct {
	base  http.RoundTripper
	host  registries.Host
	plain map[string]bool
	login registries.Login

	mu   sync.Mutex // guards what follows
	auth string     // the value of Authorization that the host took last
}

// RoundTrip sends one request, and once more after the host has asked for a login.
func (s *session) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !s.plain[r.URL.Host] {
		return nil, ErrPlain
	}
	if r.URL.Host != s.host.URL.Host || r.URL.Scheme != s.host.URL.Scheme {
		r = r.Clone(r.Context())
		r.Header.Del("Authorization")
		return s.base.RoundTrip(r) // a redirect: it gets neither login nor headers
	}
	s.mu.Lock()
	auth := s.auth
	s.mu.Unlock()
	resp, err := s.send(r, auth)
	if err != nil || resp.StatusCode != http.StatusUnauthorized || r.Body != nil && r.GetBody == nil {
		return resp, err
	}
	challenge := resp.Header.Values("WWW-Authenticate")
	_ = resp.Body.Close() // what it says is that it wants to know who asks
	if auth, err = s.answer(r.Context(), challenge); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.auth = auth
	s.mu.Unlock()
	return s.send(r, auth)
}

// send sends a copy of a request to the host.
func (s *session) send(r *http.Request, auth string) (*http.Response, error) {
	r = r.Clone(r.Context())
	for name, values := range s.host.Header {
		r.Header[http.CanonicalHeaderKey(name)] = values
	}
	if auth != "" {
		r.Header.Set("Authorization", auth)
	}
	if r.GetBody != nil {
		body, err := r.GetBody()
		if err != nil {
			return nil, err
		}
		r.Body = body
	}
	return s.base.RoundTrip(r)
}

// answer returns the value of Authorization that a challenge asks for.
func (s *session) answer(ctx context.Context, challenges []string) (string, error) {
	for _, challenge := range challenges {
		kind, values := parseChallenge(challenge)
		switch kind {
		case "bearer":
			return s.token(ctx, values)
		case "basic":
			if s.login.User == "" {
				return "", fmt.Errorf("%s wants a login: put the config.json of docker login into %s", s.host.URL.Host,
					strings.ReplaceAll(registries.Default, ",", " or "))
			}
			r := &http.Request{Header: http.Header{}}
			r.SetBasicAuth(s.login.User, s.login.Secret)
			return r.Header.Get("Authorization"), nil
		}
	}
	return "", fmt.Errorf("%s answers 401 Unauthorized and does not say which login it wants", s.host.URL.Host)
}

// token asks whom the registry names for a token.
func (s *session) token(ctx context.Context, values map[string]string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	fault := func(err error) error { return fmt.Errorf("ask for a token of %s: %w", s.host.URL.Host, err) }
	realm, err := url.Parse(values["realm"])
	if err != nil || realm.Host == "" {
		return "", fault(errors.New("the registry names nobody to ask"))
	}
	if realm.Scheme != "https" && !s.plain[realm.Host] {
		return "", fault(ErrPlain)
	}
	query := realm.Query()
	for _, key := range []string{"service", "scope"} {
		if values[key] != "" {
			query.Set(key, values[key])
		}
	}
	r, err := s.tokenRequest(ctx, realm, query)
	if err != nil {
		return "", fault(err)
	}
	resp, err := s.base.RoundTrip(r) // it follows no redirect: the login is in it
	if err != nil {
		return "", fault(err)
	}
	defer resp.Body.Close() // only read
	text, err := readBounded(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = statusError(resp, nil) // what it says may repeat what it was told
	}
	if err != nil {
		return "", fault(err)
	}
	var said struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
	}
	if json.Unmarshal(text, &said) != nil || said.Token+said.AccessToken == "" {
		return "", fault(errors.New("the answer has none"))
	}
	if said.Token == "" {
		said.Token = said.AccessToken
	}
	return "Bearer " + said.Token, nil
}

// tokenRequest is the request for a token: with a login by GET, with a token that docker login has got by POST.
func (s *session) tokenRequest(ctx context.Context, realm *url.URL, query url.Values) (*http.Request, error) {
	if s.login.User == "" && s.login.Secret != "" {
		query.Set("grant_type", "refresh_token")
		query.Set("refresh_token", s.login.Secret)
		query.Set("client_id", "resinos")
		realm.RawQuery = ""
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, realm.String(), strings.NewReader(query.Encode()))
		if err == nil {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		return r, err
	}
	realm.RawQuery = query.Encode()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, realm.String(), nil)
	if err == nil && s.login.User != "" {
		r.SetBasicAuth(s.login.User, s.login.Secret)
	}
	return r, err
}

// parseChallenge reads KIND key="value",key=value.
func parseChallenge(text string) (kind string, values map[string]string) {
	kind, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
	values = map[string]string{}
	for rest = strings.TrimLeft(rest, " ,"); rest != ""; rest = strings.TrimLeft(rest, " ,") {
		key, after, found := strings.Cut(rest, "=")
		if !found {
			break
		}
		var value string
		if quoted, is := strings.CutPrefix(after, `"`); is {
			value, rest, _ = strings.Cut(quoted, `"`)
		} else {
			value, rest, _ = strings.Cut(after, ",")
		}
		values[strings.ToLower(strings.TrimSpace(key))] = value
	}
	return strings.ToLower(kind), values
}

// statusError is the fault that an answer tells of: the registry's own word for it, if it has one.
func statusError(resp *http.Response, text []byte) error {
	var said struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
	}
	if json.Unmarshal(text, &said) == nil && len(said.Errors) > 0 && len(said.Errors[0].Message) < 200 {
		return fmt.Errorf("the registry answers %s: %s", resp.Status, said.Errors[0].Message)
	}
	return fmt.Errorf("the registry answers %s", resp.Status)
}
