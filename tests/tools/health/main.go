// Command health judges bindings as the tools judge them that wait for them: kstatus (the library behind Flux, kpt and
// Helm's --wait), Flux with the healthCheckExprs shipped in deploy/flux, Argo CD with the Lua shipped in deploy/argocd.
//
// It reads objects from standard input, one JSON document a line, and answers each with one line of JSON.
//
//	health --lua deploy/argocd/health.lua --flux deploy/flux/kustomization.yaml < objects
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	luajson "layeh.com/gopher-json"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
	"sigs.k8s.io/yaml"
)

// verdict is what the three make of one object.
type verdict struct {
	Kstatus     string `json:"kstatus"`
	Flux        string `json:"flux"`
	Argo        string `json:"argo"`
	ArgoMessage string `json:"argoMessage"`
}

func main() {
	log.SetFlags(0)
	script := flag.String("lua", "", "the health script of Argo CD")
	kustomization := flag.String("flux", "", "a Flux Kustomization with healthCheckExprs")
	flag.Parse()
	if err := judge(*script, *kustomization, os.Stdin, os.Stdout); err != nil {
		log.Fatalf("health: %v", err)
	}
}

func judge(script, kustomization string, in io.Reader, out io.Writer) error {
	argo, err := os.ReadFile(script)
	if err != nil {
		return err
	}
	flux, err := evaluator(kustomization)
	if err != nil {
		return err
	}
	answers := json.NewEncoder(out)
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var object unstructured.Unstructured
		if err := object.UnmarshalJSON(lines.Bytes()); err != nil {
			return err
		}
		answer, err := ask(&object, lines.Bytes(), flux, string(argo))
		if err != nil {
			return fmt.Errorf("%s: %w", object.GetName(), err)
		}
		if err := answers.Encode(answer); err != nil {
			return err
		}
	}
	return lines.Err()
}

func ask(object *unstructured.Unstructured, text []byte, flux *cel.StatusEvaluator, script string) (verdict, error) {
	plain, err := status.Compute(object)
	if err != nil {
		return verdict{}, fmt.Errorf("kstatus: %w", err)
	}
	expressed, err := flux.Evaluate(context.Background(), object)
	if err != nil {
		return verdict{}, fmt.Errorf("flux: %w", err)
	}
	health, message, err := run(script, text)
	if err != nil {
		return verdict{}, fmt.Errorf("argo: %w", err)
	}
	return verdict{plain.Status.String(), expressed.Status.String(), health, message}, nil
}

// evaluator reads the expressions of the one health check that the Kustomization has.
func evaluator(file string) (*cel.StatusEvaluator, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var shipped struct {
		Spec struct {
			HealthCheckExprs []kustomize.CustomHealthCheck `json:"healthCheckExprs"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(text, &shipped); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	checks := shipped.Spec.HealthCheckExprs
	if len(checks) != 1 || checks[0].APIVersion != "instancerole.dev/v1alpha1" || checks[0].Kind != "InstanceRoleBinding" {
		return nil, fmt.Errorf("%s: one health check of InstanceRoleBindings was expected: %+v", file, checks)
	}
	return cel.NewStatusEvaluator(&checks[0].HealthCheckExpressions)
}

// run is a run of a health script as Argo CD does it: few libraries, the object as the global obj, a second at most.
func run(script string, object []byte) (health, message string, err error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable} {
		state.Push(state.NewFunction(open))
		state.Push(lua.LString(name))
		state.Call(1, 0)
	}
	limit, end := context.WithTimeout(context.Background(), time.Second)
	defer end()
	state.SetContext(limit)
	value, err := luajson.Decode(state, object)
	if err != nil {
		return "", "", err
	}
	state.SetGlobal("obj", value)
	if err := state.DoString(script); err != nil {
		return "", "", err
	}
	answer, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return "", "", fmt.Errorf("the script returned %s, not a table", state.Get(-1).Type())
	}
	health, message = lua.LVAsString(answer.RawGetString("status")), lua.LVAsString(answer.RawGetString("message"))
	switch health {
	case "Healthy", "Progressing", "Degraded", "Suspended", "Missing":
		return health, message, nil
	}
	return "", "", errors.New("no health of Argo CD: " + health)
}
