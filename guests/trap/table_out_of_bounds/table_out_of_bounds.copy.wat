;; table.copy whose source ends one element beyond the table.
(module
  (memory (export "memory") 1)
  (table $t 2 funcref)
  (func (export "_start")
    (table.copy $t $t (i32.const 0) (i32.const 1) (i32.const 2))))
