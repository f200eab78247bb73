;; call_indirect for a 64-bit result of a function that has a 32-bit one.
(module
  (memory (export "memory") 1)
  (table $t 1 funcref)
  (elem (i32.const 0) func $narrow)
  (func $narrow (result i32)
    (i32.const 7))
  (func (export "_start")
    (drop (call_indirect $t (result i64) (i32.const 0)))))
