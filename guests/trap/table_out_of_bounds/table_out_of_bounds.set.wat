;; table.set beyond the end of the table.
(module
  (memory (export "memory") 1)
  (table $t 2 funcref)
  (func (export "_start")
    (table.set $t (i32.const 2) (ref.null func))))
