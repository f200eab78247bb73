;; call_indirect with index -1: indices have no sign.
(module
  (memory (export "memory") 1)
  (table $t 2 funcref)
  (elem (i32.const 0) func $nothing $nothing)
  (func $nothing)
  (func (export "_start")
    (call_indirect $t (i32.const -1))))
