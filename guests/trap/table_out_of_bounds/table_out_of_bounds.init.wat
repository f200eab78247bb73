;; table.init that reads one element beyond its segment.
(module
  (memory (export "memory") 1)
  (table $t 2 funcref)
  (elem $functions func $nothing)
  (func $nothing)
  (func (export "_start")
    (table.init $t $functions (i32.const 0) (i32.const 0) (i32.const 2))))
