;; The growth that a table's own maximum forbids was booked against the guest's limit on Wasmtime and Wasmi: growth that
;; the limit allows was refused afterwards.
;; too_much -> returned i32:0xffffffff
;; too_much -> returned i32:0xffffffff
;; grow -> returned i32:0x1
(module
  (table 1 500 funcref)
  (func (export "too_much") (result i32) (table.grow (ref.null func) (i32.const 600)))
  (func (export "grow") (result i32) (table.grow (ref.null func) (i32.const 499))))
