//! The figures: for people and for programs.

use serde_json::{Value, json};

/// Where the JSON goes.
const FILE: &str = "BUDGETS";

/// Figures in the order in which they were measured; each is printed at once.
#[derive(Default)]
pub struct Table {
    rows: Vec<Value>,
    over: Vec<String>,
}

impl Table {
    /// A figure that may be this much at most.
    pub fn most(&mut self, what: &str, figure: f64, unit: &str, budget: f64) {
        let fits = figure <= budget;
        let mark = if fits { "" } else { "  OVER" };
        println!("  {what:62} {figure:9.2} {unit:4} ≤ {budget}{mark}");
        if !fits {
            self.over.push(format!("{what}: {figure:.2} {unit}"));
        }
        self.rows.push(
            json!({"what": what, "figure": figure, "unit": unit, "budget": budget, "fits": fits}),
        );
    }

    /// A figure without a budget, to compare with.
    pub fn tell(&mut self, what: &str, figure: f64, unit: &str) {
        println!("  {what:62} {figure:9.2} {unit}");
        self.rows
            .push(json!({"what": what, "figure": figure, "unit": unit}));
    }

    /// Writes the JSON; fails if a figure is over its budget.
    pub fn end(self) {
        if let Some(file) = std::env::var_os(FILE) {
            std::fs::write(file, format!("{:#}\n", Value::Array(self.rows))).unwrap();
        }
        assert!(
            self.over.is_empty(),
            "broken: each figure keeps its budget: {:#?}",
            self.over
        );
    }
}
