;; Wasmi 2.0.0 drops the comparison of a local with 0 before a `select`, and tests whatever its register holds.
;; eqz 0 -> returned i32:0x1
;; eqz 5 -> returned i32:0x2
;; eq 0 -> returned i32:0x1
;; ne 0 -> returned i32:0x2
;; divides 0 -> returned i32:0x64
(module
  (func (export "eqz") (param i32) (result i32) (local i32)
    (local.set 1 (i32.sub (local.get 1) (i32.const 1)))
    (select (i32.const 1) (i32.const 2) (i32.eqz (local.get 0))))
  (func (export "eq") (param i32) (result i32) (local i32)
    (local.set 1 (i32.sub (local.get 1) (i32.const 1)))
    (select (i32.const 1) (i32.const 2) (i32.eq (local.get 0) (i32.const 0))))
  (func (export "ne") (param i32) (result i32) (local i32)
    (local.set 1 (i32.sub (local.get 1) (i32.const 1)))
    (select (i32.const 1) (i32.const 2) (i32.ne (local.get 0) (i32.const 0))))
  (func (export "divides") (param i32) (result i32) (local i32)
    (local.set 1 (i32.sub (local.get 1) (i32.const 1)))
    (i32.div_u (i32.const 100) (select (i32.const 1) (local.get 0) (i32.eqz (local.get 0))))))
