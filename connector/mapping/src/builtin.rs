//! What a program can call: jq's language without the world around it.
//!
//! Left out on purpose: `env` and `$ENV`, which hold secrets; `now`, since a message that is read again
//! must give the same values; `input` and `inputs`, `debug`, `stderr`, `halt` and modules, which would reach
//! beyond the message. Left out for their size: regular expressions (`test`, `match`, `capture`, `sub` …),
//! dates (`fromdate`, `strptime` …; a time may stay the text it is), rare mathematics, `@html` and `@uri`.

use base64::{Engine, engine::general_purpose::STANDARD};
use jaq_core::{
    Error,
    data::JustLut,
    load::parse::Def,
    native::{Filter, Fun, bome, run, v},
};
use jaq_json::Val;
use jaq_std::ValT as _;

/// Definitions of jaq's prelude that call what is left out.
const NO_DEFINITIONS: [&str; 25] = [
    "@html",
    "@htmld",
    "@uri",
    "@urid",
    "capture",
    "capture_of_match",
    "debug",
    "drem",
    "fromdate",
    "gamma",
    "gsub",
    "halt",
    "halt_error",
    "logb",
    "match",
    "nexttoward",
    "scalb",
    "scan",
    "scan_",
    "significand",
    "splits",
    "stderr",
    "sub",
    "test",
    "todate",
];
/// Functions that are left out.
const NO_FUNCTIONS: [&str; 1] = ["halt"];

/// Filters that are defined in jq.
pub fn definitions() -> impl Iterator<Item = Def<&'static str>> {
    let all = jaq_core::defs()
        .chain(jaq_std::defs())
        .chain(jaq_json::defs());
    all.filter(|one| {
        // `split` with flags is the one of regular expressions.
        let of_expressions = one.name == "split" && one.args.len() == 2;
        !of_expressions && !NO_DEFINITIONS.contains(&one.name)
    })
}

/// Filters that are not.
pub fn functions() -> impl Iterator<Item = Fun<JustLut<Val>>> {
    let all = jaq_core::funs()
        .chain(jaq_std::base_funs())
        .chain(jaq_json::funs());
    all.filter(|(name, _, _)| !NO_FUNCTIONS.contains(name))
        .chain(own().into_iter().map(run::<JustLut<Val>>))
}

/// A function by its address: jaq's own form.
type Run = jaq_core::RunPtr<JustLut<Val>>;

/// The usual ones of jaq's optional parts, which bring large tables with them.
fn own() -> Vec<Filter<Run>> {
    macro_rules! of_number {
        ($name:literal, $of:expr) => {
            ($name, v(0), |cv| {
                bome(number(&cv.1).map($of).map(Val::from))
            })
        };
    }
    macro_rules! of_two {
        ($name:literal, $of:expr) => {
            ($name, v(2), |mut cv| {
                let (second, first) = (cv.0.pop_var(), cv.0.pop_var());
                let both = number(&first).and_then(|first| Ok((first, number(&second)?)));
                bome(both.map(|(first, second)| Val::from($of(first, second))))
            })
        };
    }
    vec![
        of_number!("acos", f64::acos),
        of_number!("asin", f64::asin),
        of_number!("atan", f64::atan),
        of_number!("cbrt", f64::cbrt),
        of_number!("cos", f64::cos),
        of_number!("exp", f64::exp),
        of_number!("exp10", |exponent| 10_f64.powf(exponent)),
        of_number!("exp2", f64::exp2),
        of_number!("fabs", f64::abs),
        of_number!("log", f64::ln),
        of_number!("log10", f64::log10),
        of_number!("log2", f64::log2),
        of_number!("sin", f64::sin),
        of_number!("sqrt", f64::sqrt),
        of_number!("tan", f64::tan),
        of_number!("trunc", f64::trunc),
        of_two!("atan2", f64::atan2),
        of_two!("fmax", f64::max),
        of_two!("fmin", f64::min),
        of_two!("fmod", |dividend: f64, divisor: f64| dividend % divisor),
        of_two!("pow", f64::powf),
        ("encode_base64", v(0), |cv| {
            bome(bytes(&cv.1).map(|plain| Val::utf8_str(STANDARD.encode(plain))))
        }),
        ("decode_base64", v(0), |cv| {
            let decoded = |text: &[u8]| STANDARD.decode(text).map_err(Error::str);
            bome(bytes(&cv.1).and_then(decoded).map(Val::utf8_str))
        }),
    ]
}

fn number(value: &Val) -> Result<f64, Error<Val>> {
    value
        .as_f64()
        .ok_or_else(|| Error::typ(value.clone(), "number"))
}

fn bytes(value: &Val) -> Result<&[u8], Error<Val>> {
    value
        .as_bytes()
        .ok_or_else(|| Error::typ(value.clone(), "string"))
}

#[cfg(test)]
mod tests {
    /// An unknown name in a definition would fail every program.
    #[test]
    fn every_definition_finds_what_it_calls() {
        assert_eq!(crate::check("."), Ok(()));
    }
}
