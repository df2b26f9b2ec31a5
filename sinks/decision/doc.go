// Package decision is the HTTP endpoint that brokers ask whether a certificate is
// to be let in, and that tells a person why.
//
//	GET  /v1/certificates/{id or serial}?issuer=   the certificate and what is decided
//	POST /v1/emqx/authn, /v1/emqx/authz            EMQX's HTTP authenticator and authorizer
//	POST /auth/user, /auth/superuser, /auth/acl    mosquitto-go-auth's HTTP backend
//
// It answers from memory (internal/registry), which follows tocsin.identities.
//
// # How a broker names a certificate
//
// Best is what names exactly one: certificate_id (SHA-256 of the DER form), cert_pem,
// or serial with issuer. EMQX's HTTP authenticator can pass ${cert_common_name} and
// ${cert_subject} (docs.emqx.com, "Use HTTP Service"), and newer ones the PEM;
// mosquitto-go-auth passes the user name, which Mosquitto takes from the certificate
// with use_identity_as_username (the common name) or use_subject_as_username.
// A name can be that of several certificates, of a device that changes them, say: it
// is let in if one of them is. That one of these is revoked is then for the TLS
// server to tell, which has the certificate and, from the merged CRL that Tocsin
// exports, the revocations. A name that more than 16 certificates have says nothing
// and is refused.
//
// # What the answers mean
//
// Only certificates are judged. EMQX's authorizer is told deny or ignore, never
// allow: which topics a device may use is for its other authorizers.
// mosquitto-go-auth knows no ignore; where it is asked for access lists
// (auth_opt_http_register has acl) a good certificate may use all topics.
// Nobody is a superuser.
package decision
