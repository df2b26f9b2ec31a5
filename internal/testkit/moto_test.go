package testkit_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/tocsin-io/tocsin/internal/testkit"
)

func TestMotoServesAWS(t *testing.T) {
	endpoint := testkit.StartMoto(t)
	res, err := http.Get(endpoint + "/moto-api/data.json")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var state map[string]any
	if err := json.NewDecoder(res.Body).Decode(&state); err != nil {
		t.Fatalf("moto's state: %v", err)
	}
}
