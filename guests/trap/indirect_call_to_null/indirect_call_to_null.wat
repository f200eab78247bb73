;; call_indirect of an element that was never set.
(module
  (memory (export "memory") 1)
  (table $t 2 funcref)
  (elem (i32.const 0) func $nothing)
  (func $nothing)
  (func (export "_start")
    (call_indirect $t (i32.const 1))))
