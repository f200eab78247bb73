;; table.get beyond the end of the table.
(module
  (memory (export "memory") 1)
  (table $t 2 funcref)
  (func (export "_start")
    (drop (table.get $t (i32.const 2)))))
