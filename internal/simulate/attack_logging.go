package simulate

import "time"

// loggingOff: somebody with stolen keys switches the logs off. The operator on
// call switches them back on.
func loggingOff(s *Simulator, a *attack, _ *device) (Label, time.Duration) {
	thief := operators[1]
	thief.address = attackerAddress(&a.rng)
	thief.agent = "aws-cli/2.15.0 Python/3.11.8"
	blind := s.within(90*time.Second, 0.05)
	a.do = func(a *attack, s *Simulator, now int64) int64 {
		a.done++
		options := map[string]any{"roleArn": "arn:aws:iam::" + Account + ":role/IoTLogging", "defaultLogLevel": "DISABLED", "disableAllLogs": true}
		if a.done == 1 {
			s.cloudTrail(&a.rng, now, call{by: &thief, name: "SetV2LoggingOptions", request: options}, a.index)
			// It takes a moment to reach all of AWS IoT.
			s.silentFrom, s.silentTo = now+5000, now+blind.Milliseconds()
			return s.silentTo - 3000
		}
		options["defaultLogLevel"], options["disableAllLogs"] = "INFO", false
		s.cloudTrail(&a.rng, now, call{by: &operators[2], name: "SetV2LoggingOptions", request: options}, benign)
		return never
	}
	return Label{
		Attack:      "logging off",
		Description: "Stolen administrator keys switch AWS IoT logging off.",
		Accounts:    []string{Account},
		Addresses:   []string{thief.address},
	}, blind
}
