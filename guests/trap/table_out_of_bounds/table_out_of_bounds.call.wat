;; call_indirect with an index beyond the end of the table.
(module
  (memory (export "memory") 1)
  (table $t 2 funcref)
  (elem (i32.const 0) func $nothing $nothing)
  (func $nothing)
  (func (export "_start")
    (call_indirect $t (i32.const 2))))
