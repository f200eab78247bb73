;; call_indirect of an element that was a function and was then set to null.
(module
  (memory (export "memory") 1)
  (table $t 1 funcref)
  (elem (i32.const 0) func $nothing)
  (func $nothing)
  (func (export "_start")
    (call_indirect $t (i32.const 0))
    (table.set $t (i32.const 0) (ref.null func))
    (call_indirect $t (i32.const 0))))
