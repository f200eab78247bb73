;; table.fill that ends one element beyond the table.
(module
  (memory (export "memory") 1)
  (table $t 2 funcref)
  (func (export "_start")
    (table.fill $t (i32.const 1) (ref.null func) (i32.const 2))))
