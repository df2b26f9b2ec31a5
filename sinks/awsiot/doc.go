// Package awsiot responds to detections in AWS IoT: it cuts connections,
// deactivates and revokes certificates, moves things to a quarantine group and has
// devices change their certificates.
//
// # Who decides, who acts
//
// Every member of the sink's consumer group reads its share of tocsin.detections
// and writes what its bindings ask for to tocsin.actions. One member acts: the one
// that owns partition 0. So there is one place that knows how many devices were
// touched in the last hour, one that keeps AWS's quotas, and one that merges what
// several detections want of one device.
//
//	tocsin.detections ──► bindings, identity ──► requested ─┐
//	                                                        ▼          (one member of the group)
//	         tocsin actions approve ──► approved ──► tocsin.actions ──► executor ──► AWS IoT
//	                                                        ▲               │
//	                                                        └── every step ─┘
//
// # Steps
//
//	requested ─► refused | planned (dry run) | pending ─► rejected | expired
//	requested ─► started ─► done | failed              └► approved ─► started ...
//	requested ─► started ─► waiting ─► done | failed   (a rotation)
//
// A step is in tocsin.actions before anything follows from it: "started" before
// AWS is called. A new executor, after a crash too, reads the topic and goes on
// with every action that has no final state. What a crash can repeat is one call,
// and every call that is made here is idempotent.
//
// # Whom it believes
//
// A detection must name its target by what the broker knows of the events: the
// certificate of the session, or a client ID that came with one. A client ID that
// a connection only claimed, and a source address, are what an attacker can choose
// to have somebody else disconnected.
package awsiot
