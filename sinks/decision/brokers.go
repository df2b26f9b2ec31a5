package decision

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
)

// maxBody bounds a request: the largest thing in it is a certificate in PEM.
const maxBody = maxPEM + 16<<10

// emqxAuthn answers EMQX's HTTP authenticator. A client without a certificate is
// none of ours.
func (s *Server) emqxAuthn(w http.ResponseWriter, r *http.Request) outcome {
	q, err := ask(w, r)
	if err != nil {
		return malformed(w, err)
	}
	v := s.policy.decide(&q)
	o := v.outcome()
	if v.reason == reasonNone && !q.named() {
		o.result = resultIgnore
	}
	writeEMQX(w, o)
	return o
}

// emqxAuthz answers EMQX's HTTP authorizer.
func (s *Server) emqxAuthz(w http.ResponseWriter, r *http.Request) outcome {
	q, err := ask(w, r)
	if err != nil {
		return malformed(w, err)
	}
	v := s.policy.decide(&q)
	o := v.outcome()
	if v.allow || v.reason == reasonNone && !q.named() {
		o.result = resultIgnore
	}
	writeEMQX(w, o)
	return o
}

// writeEMQX answers with 200 whatever is decided: EMQX takes other codes for
// "ignore". What it does not know, it passes over.
func writeEMQX(w http.ResponseWriter, o outcome) {
	writeJSON(w, http.StatusOK, struct {
		Result string `json:"result"`
		Reason string `json:"reason"`
	}{o.result, o.reason})
}

// mosquittoUser answers mosquitto-go-auth's HTTP backend, in all its response modes
// but text: by the status, and by ok in the body.
func (s *Server) mosquittoUser(w http.ResponseWriter, r *http.Request) outcome {
	q, err := ask(w, r)
	if err != nil {
		return malformed(w, err)
	}
	var v verdict
	if q.named() {
		v = s.policy.decide(&q)
	} else {
		v = s.policy.byUsername(q.Username)
	}
	writeMosquitto(w, v.allow, v.reason)
	return v.outcome()
}

// mosquittoSuperuser says that nobody is a superuser, whom access lists do not
// bind.
func (s *Server) mosquittoSuperuser(w http.ResponseWriter, r *http.Request) outcome {
	if _, err := ask(w, r); err != nil {
		return malformed(w, err)
	}
	writeMosquitto(w, false, reasonSuperuser)
	return outcome{resultDeny, reasonSuperuser}
}

func writeMosquitto(w http.ResponseWriter, ok bool, reason string) {
	status := http.StatusForbidden
	answer := struct {
		OK    bool   `json:"ok"`
		Error string `json:"error"`
	}{OK: ok}
	if ok {
		status = http.StatusOK
	} else {
		answer.Error = reason
	}
	writeJSON(w, status, answer)
}

// ask reads a question from a body of JSON or a form.
func ask(w http.ResponseWriter, r *http.Request) (question, error) {
	var q question
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")) // without one it is JSON
	if kind == "application/x-www-form-urlencoded" {
		if err := r.ParseForm(); err != nil {
			return q, fmt.Errorf("form: %w", err)
		}
		q = question{
			ID: r.PostForm.Get("certificate_id"), PEM: r.PostForm.Get("cert_pem"), Serial: r.PostForm.Get("serial"), Issuer: r.PostForm.Get("issuer"),
			Subject: r.PostForm.Get("cert_subject"), CommonName: r.PostForm.Get("cert_common_name"), Username: r.PostForm.Get("username"),
		}
	} else {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return q, fmt.Errorf("body: %w", err)
		}
		if err := json.Unmarshal(body, &q); err != nil {
			return q, fmt.Errorf("body: %w", err)
		}
	}
	q.clean()
	return q, nil
}

// clean takes away what EMQX puts in the place of a value that there is not.
func (q *question) clean() {
	for _, s := range [...]*string{&q.ID, &q.PEM, &q.Serial, &q.Issuer, &q.Subject, &q.CommonName} {
		if *s == "undefined" || *s == "null" {
			*s = ""
		}
	}
}

// named reports whether the question names a certificate other than by its user.
func (q *question) named() bool {
	return q.ID != "" || q.PEM != "" || q.Serial != "" || q.Subject != "" || q.CommonName != ""
}

func malformed(w http.ResponseWriter, err error) outcome {
	status := http.StatusBadRequest
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		status = http.StatusRequestEntityTooLarge
	}
	refuse(w, status, err)
	return outcome{resultRefused, reasonMalformed}
}

func refuse(w http.ResponseWriter, status int, err error) {
	writeJSON(w, status, struct {
		Error string `json:"error"`
	}{err.Error()})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic("BUG: cannot encode an answer: " + err.Error())
	}
	body = append(body, '\n')
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body) // whoever asked is gone
}
