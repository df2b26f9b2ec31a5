package correlate

// childEnv makes the test binary a correlator that can be killed.
const childEnv = "TOCSIN_TEST_CORRELATOR"

func runChild() int { return 2 }
