;; An active element segment that ends one element beyond the table: instantiation fails.
(module
  (memory (export "memory") 1)
  (table $t 2 funcref)
  (elem (i32.const 1) func $nothing $nothing)
  (func $nothing)
  (func (export "_start")))
