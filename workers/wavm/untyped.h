// What WAVM's code expects of LLVM 9 and LLVM 14 does not have any more. prepare.py puts this file beside WAVM's own
// in Lib/LLVMJIT.
//
// Since LLVM 14, whoever loads from a pointer, adds to one or calls one has to say what it points to. In LLVM 14
// pointers still know that themselves, so that it can be filled in here.
#pragma once

#include <llvm/IR/DerivedTypes.h>
#include <llvm/IR/IRBuilder.h>
#include <llvm/IR/IntrinsicsAArch64.h>
#include <llvm/IR/IntrinsicsX86.h>

namespace WAVM { namespace LLVMJIT {
    struct UntypedBuilder : llvm::IRBuilder<>
    {
        using llvm::IRBuilder<>::IRBuilder;
        using llvm::IRBuilder<>::CreateCall;

        llvm::LoadInst* CreateLoad(llvm::Value* pointer)
        {
            return llvm::IRBuilder<>::CreateLoad(pointee(pointer), pointer);
        }

        llvm::Value* CreateInBoundsGEP(llvm::Value* pointer, llvm::ArrayRef<llvm::Value*> indices)
        {
            return llvm::IRBuilder<>::CreateInBoundsGEP(pointee(pointer), pointer, indices);
        }

        llvm::CallInst* CreateCall(llvm::Value* callee, llvm::ArrayRef<llvm::Value*> arguments)
        {
            return llvm::IRBuilder<>::CreateCall(typeOf(callee), callee, arguments);
        }

        llvm::InvokeInst* CreateInvoke(llvm::Value* callee,
                                       llvm::BasicBlock* returns,
                                       llvm::BasicBlock* unwinds,
                                       llvm::ArrayRef<llvm::Value*> arguments)
        {
            return llvm::IRBuilder<>::CreateInvoke(typeOf(callee), callee, returns, unwinds, arguments);
        }

        // Here so that a list in braces is one of positions.
        llvm::Value* CreateShuffleVector(llvm::Value* first, llvm::Value* second, llvm::ArrayRef<int> positions)
        {
            return llvm::IRBuilder<>::CreateShuffleVector(first, second, positions);
        }

    private:
        static llvm::Type* pointee(llvm::Value* pointer) { return pointer->getType()->getPointerElementType(); }

        static llvm::FunctionType* typeOf(llvm::Value* callee)
        {
            return llvm::cast<llvm::FunctionType>(pointee(callee));
        }
    };

    // The number of lanes of a vector, which types do not tell themselves any more.
    inline unsigned numLanesOf(llvm::Type* type)
    {
        return llvm::cast<llvm::FixedVectorType>(type)->getNumElements();
    }
}}
