package rules

var levelNames = [...]string{
	LevelInformational: "informational",
	LevelLow:           "low",
	LevelMedium:        "medium",
	LevelHigh:          "high",
	LevelCritical:      "critical",
}

// String returns Sigma's name of the level, "" for none.
func (l Level) String() string {
	if int(l) < len(levelNames) {
		return levelNames[l]
	}
	return ""
}

// ParseLevel returns the level of that name.
func ParseLevel(s string) (Level, bool) {
	for l, name := range levelNames {
		if name == s && name != "" {
			return Level(l), true
		}
	}
	return 0, false
}
