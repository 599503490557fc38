// Command dashboard evaluates every query of a Grafana dashboard over scraped metrics, with Prometheus' own engine.
//
//	dashboard deploy/monitoring/dashboard.json FOLDER
//
// The folder holds what /metrics answered, each in a file named after its time in milliseconds: 1750000000000.txt. It prints the
// panels with the series of each query, for hack/dashboard.py to draw.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/tsdb"
)

// series is one line of a panel: seconds since the first file, and values.
type series struct {
	Labels map[string]string `json:"labels"`
	Points [][2]float64      `json:"points"`
}

// target is one query.
type target struct {
	Expr   string   `json:"expr"`
	Legend string   `json:"legend"`
	Series []series `json:"series"`
}

// panel is a panel, in its place.
type panel struct {
	Title   string   `json:"title"`
	Type    string   `json:"type"`
	Unit    string   `json:"unit"`
	Grid    any      `json:"grid"`
	Targets []target `json:"targets"`
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: dashboard DASHBOARD FOLDER")
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		log.Fatalf("dashboard: %v", err)
	}
}

func run(dashboard, folder string) error {
	dir, err := os.MkdirTemp("", "dashboard-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	db, err := tsdb.Open(dir, slog.New(slog.DiscardHandler), nil, tsdb.DefaultOptions(), nil)
	if err != nil {
		return err
	}
	defer db.Close()
	from, to, err := fill(db, folder)
	if err != nil {
		return err
	}
	raw, err := os.ReadFile(dashboard)
	if err != nil {
		return err
	}
	var board struct {
		Panels []struct {
			Title, Type string
			GridPos     map[string]int
			FieldConfig struct{ Defaults struct{ Unit string } }
			Targets     []struct{ Expr, LegendFormat string }
		}
	}
	if err := json.Unmarshal(raw, &board); err != nil {
		return err
	}
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 5e7, Timeout: time.Minute, LookbackDelta: 30 * time.Second})
	var panels []panel
	for _, p := range board.Panels {
		shown := panel{Title: p.Title, Type: p.Type, Unit: p.FieldConfig.Defaults.Unit, Grid: p.GridPos}
		for _, t := range p.Targets {
			lines, err := evaluate(engine, db, t.Expr, from, to)
			if err != nil {
				return fmt.Errorf("%s: %w", p.Title, err)
			}
			shown.Targets = append(shown.Targets, target{t.Expr, t.LegendFormat, lines})
		}
		panels = append(panels, shown)
	}
	return json.NewEncoder(os.Stdout).Encode(panels)
}

// fill takes in what was scraped, with the labels that Prometheus adds in a cluster; it returns the first and the last time.
func fill(db *tsdb.DB, folder string) (from, to int64, err error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.txt"))
	if err != nil || len(files) < 2 {
		return 0, 0, fmt.Errorf("%s: at least two scrapes are needed (%v)", folder, err)
	}
	sort.Strings(files)
	for _, file := range files {
		at, err := strconv.ParseInt(strings.TrimSuffix(filepath.Base(file), ".txt"), 10, 64)
		if err != nil {
			return 0, 0, err
		}
		if from == 0 {
			from = at
		}
		to = at
		text, err := os.ReadFile(file)
		if err != nil {
			return 0, 0, err
		}
		appender := db.Appender(context.Background())
		parser := textparse.NewPromParser(text, labels.NewSymbolTable(), false)
		for {
			entry, err := parser.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return 0, 0, fmt.Errorf("%s: %w", file, err)
			}
			if entry != textparse.EntrySeries {
				continue
			}
			_, _, value := parser.Series()
			var own labels.Labels
			parser.Labels(&own)
			all := labels.NewBuilder(own).Set("namespace", "instance-role-system").Set("job", "instance-role-controller")
			all.Set("instance", "10.0.0.7:8080").Set("pod", "instance-role-controller-0")
			if _, err := appender.Append(0, all.Labels(), at, value); err != nil {
				return 0, 0, err
			}
		}
		if err := appender.Commit(); err != nil {
			return 0, 0, err
		}
	}
	return from, to, nil
}

// evaluate runs one query over all the time, with the dashboard's variables at "all".
func evaluate(engine *promql.Engine, db *tsdb.DB, expr string, from, to int64) ([]series, error) {
	expr = strings.NewReplacer("$__rate_interval", "20s", "$namespace", ".*", "$job", ".*").Replace(expr)
	query, err := engine.NewRangeQuery(context.Background(), db, nil, expr, time.UnixMilli(from), time.UnixMilli(to), time.Second)
	if err != nil {
		return nil, err
	}
	defer query.Close()
	matrix, err := query.Exec(context.Background()).Matrix()
	if err != nil {
		return nil, err
	}
	var lines []series
	for _, one := range matrix {
		line := series{Labels: one.Metric.Map()}
		for _, point := range one.Floats {
			if math.IsNaN(point.F) || math.IsInf(point.F, 0) { // JSON has no word for them
				continue
			}
			line.Points = append(line.Points, [2]float64{float64(point.T-from) / 1000, point.F})
		}
		if len(line.Points) > 0 {
			lines = append(lines, line)
		}
	}
	return lines, nil
}
